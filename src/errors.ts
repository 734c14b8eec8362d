/**
 * Every error that a person can meet: what failed, on what, and what to do.
 * `code` is stable; scripts and the exit status depend on it.
 */
export type ErrorCode =
  | 'usage' // the command line or an argument is wrong
  | 'config' // a configuration file is wrong
  | 'not-found' // the reference, mount or image does not exist
  | 'denied' // credentials are missing or refused
  | 'unsupported' // a format, feature or kernel that we do not serve
  | 'corrupt' // bytes that contradict their format or digest
  | 'source' // a registry or folder could not deliver (after retries)
  | 'timeout' // a deadline passed
  | 'busy' // a directory, root or mount is in use
  | 'exists' // a name is in use
  | 'precondition' // what was asked for is not possible in the present state
  | 'mount' // the kernel refused
  | 'cache' // the cache directory cannot be used
  | 'daemon' // the daemon cannot be reached or died
  | 'cancelled' // the caller went away
  | 'internal';

export interface NymphErrorOptions {
  /** What the reader should do next, as a full sentence. */
  hint?: string;
  cause?: unknown;
  /** Whether the same request may succeed later or elsewhere. */
  retryable?: boolean;
  /** Milliseconds that the other side asked us to wait (Retry-After). */
  retryAfter?: number;
}

export class NymphError extends Error {
  readonly code: ErrorCode;
  readonly hint?: string;
  readonly retryable: boolean;
  readonly retryAfter?: number;

  /** @param message what failed, on what, and why: `cannot read blob sha256:…: connection reset` */
  constructor(code: ErrorCode, message: string, options: NymphErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'NymphError';
    this.code = code;
    this.hint = options.hint;
    this.retryable = options.retryable ?? false;
    this.retryAfter = options.retryAfter;
  }
}

/** A structure on disk or on the wire that breaks its rules: names the structure, the field and the byte offset. */
export function corrupt(structure: string, field: string, offset: number, why: string): NymphError {
  return new NymphError('corrupt', `${structure}: ${field} at byte ${offset}: ${why}`);
}
