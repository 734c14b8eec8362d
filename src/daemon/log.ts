import { isatty } from 'node:tty';
import { type Logger, pino, stdSerializers } from 'pino';
import { NymphError } from '../errors.ts';
import { textLine } from './log-text.ts';

export type { Logger };

export interface LogOptions {
  level: 'debug' | 'info' | 'warn' | 'error';
  /** `auto`: `text` if the destination is a terminal, else `json`. */
  format: 'auto' | 'json' | 'text';
  /** File to append to; standard error by default. */
  file?: string;
}

/** Lines that wait to be written, bytes; more are dropped. */
const MOST_UNWRITTEN = 16 << 20;

/**
 * The daemon's log: one line for each event, written without blocking the thread; what is still buffered is written when
 * the process ends. Secrets are taken out of every line. Errors are logged under `error`: `log.warn({ error }, 'text')`.
 */
export function createLogger(options: LogOptions): Logger {
  // With `minLength` 0 its `flush` would call back before anything is written.
  const output = pino.destination({
    dest: options.file ?? 2,
    sync: false,
    minLength: 1,
    mkdir: options.file !== undefined,
    maxLength: MOST_UNWRITTEN,
  });
  // On a full disk reads go on, so the log must not end the daemon: what cannot be written waits for the next line.
  let failing = false;
  output.on('error', () => (failing = true)).on('write', () => (failing = false));
  const flushSync = output.flushSync.bind(output);
  // It tries for ever what cannot be written, and the process would not end.
  output.flushSync = () => (failing ? undefined : flushSync());
  process.on('exit', () => output.flushSync());
  const terminal = options.file === undefined && isatty(2);
  const text = options.format === 'text' || (options.format === 'auto' && terminal);
  const colours = terminal && !process.env.NO_COLOR;
  return loggerTo(
    {
      write: (line) => void output.write(text ? textLine(line, colours) : line),
      flush: (done) => output.flush(done),
    },
    options.level,
  );
}

/** Where a logger's JSON lines go. */
export interface LogStream {
  write(line: string): void;
  flush?(done?: () => void): void;
}

/** {@link createLogger} onto any stream of JSON lines. */
export function loggerTo(stream: LogStream, level: LogOptions['level']): Logger {
  return pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: describeError, err: describeError },
      redact: { paths: SECRET_FIELDS, censor: '[secret]' },
      hooks: { streamWrite: withoutSecrets },
    },
    stream,
  );
}

const SECRET_NAMES = ['authorization', 'password', 'secret', 'token', 'auth', 'identitytoken', 'cookie'];
const SECRET_FIELDS = SECRET_NAMES.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);

/**
 * Takes secrets out of a text: the password in `https://user:password@host`, what follows `Bearer` and `Basic`, and the
 * values of query parameters that grant access (signed addresses of object stores, tokens).
 */
export function withoutSecrets(text: string): string {
  return text
    .replace(/(:\/\/)[^/\s"'@?#]+@/g, '$1[secret]@')
    .replace(/\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{4,}/gi, '$1 [secret]')
    .replace(
      /([?&][^=&\s"]{0,64}(?:signature|credential|token|secret|password|sig|key)[^=&\s"]{0,64}=)[^&\s"\\]+/gi,
      '$1[secret]',
    );
}

/** An error as fields: with a stack only where it is a fault of ours, for an operator can do nothing with it else. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if (!(error instanceof NymphError) || error.code === 'internal') return stdSerializers.err(error);
  const cause = error.cause === undefined ? {} : { cause: causes(error.cause) };
  return { code: error.code, message: error.message, hint: error.hint, ...cause };
}

/** The chain of causes as one text, outermost first. */
export function causes(cause: unknown): string {
  const texts: string[] = [];
  // A chain can be a ring; eight links say enough.
  for (let next = cause; next !== undefined && next !== null && texts.length < 8; ) {
    texts.push(next instanceof Error ? next.message || next.name : String(next));
    next = next instanceof Error ? next.cause : undefined;
  }
  return texts.join(': ');
}
