import { type ErrorCode, NymphError } from './errors.ts';

/** Exit status of every command and of the daemon; part of the interface, described in `docs/cli.md`. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  denied: 4,
  corrupt: 5,
  unsupported: 6,
  daemon: 7,
  busy: 8,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_OF_ERROR: Readonly<Record<ErrorCode, ExitCode>> = {
  usage: EXIT.usage,
  config: EXIT.usage,
  'not-found': EXIT.notFound,
  denied: EXIT.denied,
  unsupported: EXIT.unsupported,
  corrupt: EXIT.corrupt,
  source: EXIT.failed,
  timeout: EXIT.failed,
  busy: EXIT.busy,
  exists: EXIT.failed,
  precondition: EXIT.failed,
  mount: EXIT.failed,
  cache: EXIT.failed,
  daemon: EXIT.daemon,
  cancelled: EXIT.interrupted,
  internal: EXIT.failed,
};

/** The exit status that says what went wrong. */
export function exitStatus(error: unknown): ExitCode {
  return EXIT_OF_ERROR[error instanceof NymphError ? error.code : 'internal'];
}
