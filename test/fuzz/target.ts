import { type ErrorCode, NymphError } from '../../src/errors.ts';
import type { Random } from './random.ts';

/** A reader of bytes from outside, and what holds for it whatever the bytes are. */
export interface Target {
  readonly name: string;
  /** Inputs to begin with: right ones, of every kind. */
  seeds(): Uint8Array[] | Promise<Uint8Array[]>;
  /**
   * Reads the input, and checks what came of it; the same input gives the same result. Throws NymphError for what it
   * refuses, and any other error for a defect.
   * @returns the kind of result, for the search: few different ones
   */
  run(input: Uint8Array): string | undefined | Promise<string | undefined>;
  /** Codes that may be thrown. Default `corrupt` and `unsupported`. */
  readonly errors?: readonly ErrorCode[];
  /** Whether errors `corrupt` name structure, field and byte. Default true; of what a server sent wrongly, some do not. */
  readonly places?: boolean;
  /** Whether inputs are text. */
  readonly text?: boolean;
  /** Words that inputs are made of. */
  readonly words?: readonly (string | Uint8Array)[];
  /** Makes an input of a grammar. */
  generate?(random: Random): Uint8Array;
  /** Makes checksums right again, in place: what is behind them would never be reached otherwise. */
  repair?(input: Buffer): void;
  /** Longest input, bytes. Default 64 KiB. */
  readonly limit?: number;
  /** Bytes that one run may allocate. Default 64 MiB. */
  readonly memory?: number;
  /** Native code works on the bytes: each input is put into a file first, for the case that it kills the process. */
  readonly native?: boolean;
  /** Runs of this target for each run of an average one. Default 1. */
  readonly share?: number;
}

/** What is wrong with the code, and not with the input. */
export class Defect extends Error {}

/** Throws a {@link Defect} unless `holds`. */
export function ensure(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Defect(what);
}

const DEFAULT_CODES: readonly ErrorCode[] = ['corrupt', 'unsupported'];
/** `structure: field at byte 12: why`. */
const PLACE = /^(.+?: .+?) at byte \d+: /s;

/**
 * Runs one input.
 * @returns a name for the way that it went: the message without its numbers, or the kind of result. A promise only of
 *   targets that are asynchronous: one for each run takes as long as the run itself
 * @throws whatever is a defect
 */
export function judge(target: Target, input: Uint8Array): string | Promise<string> {
  let result: ReturnType<Target['run']>;
  try {
    result = target.run(input);
  } catch (error) {
    return refusal(target, error);
  }
  if (!(result instanceof Promise)) return `ok ${result}`;
  return result.then(
    (kind) => `ok ${kind}`,
    (error) => refusal(target, error),
  );
}

function refusal(target: Target, error: unknown): string {
  if (!(error instanceof NymphError)) throw error;
  const { code, message } = error;
  if (!(target.errors ?? DEFAULT_CODES).includes(code))
    throw new Defect(`an error with the code "${code}": ${message}`, { cause: error });
  if (code !== 'corrupt') return `${code} ${placesIn(error)}`;
  const place = PLACE.exec(message)?.[1];
  if (place === undefined && target.places !== false)
    throw new Defect(`an error "corrupt" that does not name structure, field and byte: ${message}`, { cause: error });
  return `corrupt ${place === undefined ? placesIn(error) : plain(place)}`;
}

/** Numbers, hex and quoted texts come out of the input: they would make each message a way of its own. */
function plain(message: string): string {
  return message.replace(/["`].*["`]/gs, '""').replace(/0x[0-9a-f]+|[0-9a-f]{16,}|\d+/g, '0');
}

/** Where an error was made, and who asked for it: messages hold too much of the input to tell ways apart. */
function placesIn({ stack = '' }: Error): string {
  const places = [...stack.matchAll(/\n\s+at [^\n]*?\/(src\/[^\s:)]+:\d+)/g)].map(([, place]) => place);
  return places
    .filter((place) => !place.startsWith('src/errors.ts'))
    .slice(0, 2)
    .join(' ');
}

/** A name for a defect: the same for all inputs that meet it. */
export function defectName(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${String(error)}`;
  return `${error.name}: ${plain(error.message).slice(0, 200)} (${placesIn(error)})`;
}
