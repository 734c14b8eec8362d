import { NymphError } from '../errors.ts';

/** A trace as people hand it on. */
export interface TraceInput {
  /** Of the image that it was taken of, where it says. */
  reference?: string;
  digest?: string;
  /** As `image/trace.ts` has it. */
  trace?: string;
  /** Paths, in the order of their first read. */
  files?: string[];
}

/** As `image/trace.ts` writes it. */
const RANGES = /^\d+:\d+\+\d+(?: \d+:\d+\+\d+)*$/;

/**
 * Reads what `nymph trace --json` prints, a JSON list of paths, what `nymph trace` prints (a path a line; lines that
 * begin with `#` are comments), or the text of a trace alone.
 * @param name of the file, for messages @throws NymphError `usage`
 */
export function readTrace(text: string, name: string): TraceInput {
  const trimmed = text.trim();
  if (trimmed === '') throw wrong(name, 'is empty');
  if (RANGES.test(trimmed)) return { trace: trimmed };
  if (/^[{[]/.test(trimmed)) return fromJson(trimmed, name);
  const files = trimmed.split('\n').flatMap((line) => {
    const path = line.replace(/\r$/, '');
    return path === '' || path.startsWith('#') ? [] : [path];
  });
  if (files.length === 0) throw wrong(name, 'names no file');
  return { files };
}

function fromJson(text: string, name: string): TraceInput {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new NymphError('usage', `${name} begins like JSON, and is none: ${(error as Error).message}`);
  }
  if (Array.isArray(value)) return { files: paths(value, name) };
  const { reference, digest, trace, files } = value as Record<string, unknown>;
  const input: TraceInput = {
    ...(typeof reference === 'string' && { reference }),
    ...(typeof digest === 'string' && { digest }),
    ...(typeof trace === 'string' && trace !== '' && { trace }),
    ...(Array.isArray(files) && files.length > 0 && { files: paths(files, name) }),
  };
  if (input.trace === undefined && input.files === undefined) throw wrong(name, 'has neither a trace nor files');
  return input;
}

function paths(list: unknown[], name: string): string[] {
  if (list.length === 0) throw wrong(name, 'names no file');
  for (const path of list)
    if (typeof path !== 'string' || path === '') throw wrong(name, 'names files that are no paths');
  return list as string[];
}

function wrong(name: string, what: string): NymphError {
  return new NymphError('usage', `${name === '-' ? 'standard input' : name} ${what}`, {
    hint: 'It may be what `nymph trace` prints, with or without --json, or a list of paths.',
  });
}
