import { type ErrorCode, NymphError } from '../errors.ts';

/**
 * Errors as containerd reads them: a gRPC code, which it turns back into one of its classes, and a text that ends with
 * the name of that class, which it takes off again (containerd's module errdefs, package errgrpc).
 */
export interface GrpcError {
  code: number;
  details: string;
}

/** gRPC's numbers, with the texts of containerd's classes. */
const CANCELLED = [1, 'context canceled'] as const;
const INVALID_ARGUMENT = [3, 'invalid argument'] as const;
const DEADLINE_EXCEEDED = [4, 'context deadline exceeded'] as const;
const NOT_FOUND = [5, 'not found'] as const;
const ALREADY_EXISTS = [6, 'already exists'] as const;
const PERMISSION_DENIED = [7, 'permission denied'] as const;
const RESOURCE_EXHAUSTED = [8, 'resource exhausted'] as const;
const FAILED_PRECONDITION = [9, 'failed precondition'] as const;
const UNIMPLEMENTED = [12, 'not implemented'] as const;
const INTERNAL = [13, 'internal'] as const;
const UNAVAILABLE = [14, 'unavailable'] as const;
const DATA_LOSS = [15, 'data loss'] as const;

const CLASSES: Readonly<Record<ErrorCode, readonly [number, string]>> = {
  usage: INVALID_ARGUMENT,
  config: INTERNAL,
  'not-found': NOT_FOUND,
  denied: PERMISSION_DENIED,
  unsupported: UNIMPLEMENTED,
  corrupt: DATA_LOSS,
  source: UNAVAILABLE,
  timeout: DEADLINE_EXCEEDED,
  busy: FAILED_PRECONDITION,
  exists: ALREADY_EXISTS,
  precondition: FAILED_PRECONDITION,
  mount: INTERNAL,
  cache: INTERNAL,
  daemon: UNAVAILABLE,
  cancelled: CANCELLED,
  internal: INTERNAL,
};

const FULL = new Set(['ENOSPC', 'EDQUOT', 'SQLITE_FULL']);

/** The one way by which an error leaves. */
export function toGrpcError(error: unknown): GrpcError {
  const [code, name] = classOf(error);
  const text = error instanceof Error ? error.message : String(error);
  const hint = error instanceof NymphError && error.hint !== undefined ? ` (${error.hint})` : '';
  return { code, details: `${text}${hint}: ${name}` };
}

function classOf(error: unknown): readonly [number, string] {
  for (let cause: unknown = error, depth = 0; cause instanceof Error && depth < 8; cause = cause.cause, depth++)
    if (FULL.has(String((cause as { code?: unknown }).code))) return RESOURCE_EXHAUSTED;
  return error instanceof NymphError ? CLASSES[error.code] : INTERNAL;
}
