import type { ServiceError } from '@grpc/grpc-js';
import { type ErrorCode, NymphError } from '../errors.ts';

/** gRPC's numbers of what containerd answers and callers tell apart. */
const STATUS = {
  cancelled: 1,
  'invalid argument': 3,
  'deadline exceeded': 4,
  'not found': 5,
  'already exists': 6,
  'permission denied': 7,
  'failed precondition': 9,
  unavailable: 14,
  unauthenticated: 16,
} as const;

const CODES: Readonly<Record<number, ErrorCode>> = {
  [STATUS.cancelled]: 'cancelled',
  [STATUS['invalid argument']]: 'usage',
  [STATUS['deadline exceeded']]: 'timeout',
  [STATUS['permission denied']]: 'denied',
  [STATUS.unauthenticated]: 'denied',
};

/** Whether this is what containerd answered to a call (connection.ts). */
export function isStatus(error: unknown, status: keyof typeof STATUS): boolean {
  const { cause } = error as { cause?: Partial<ServiceError> };
  return error instanceof NymphError && cause?.code === STATUS[status];
}

/**
 * The error of a call: `daemon` if containerd failed or went away.
 * @param path `/containerd.services.content.v1.Content/Info`
 * @param error as grpc-js gives it: `details` is what the other side said
 */
export function callError(path: string, error: ServiceError, signal: AbortSignal | undefined): NymphError {
  if (signal?.aborted) return new NymphError('cancelled', 'interrupted', { cause: error });
  const what = path.replace(/^.*\.(\w+)\//, '$1 ');
  return new NymphError(CODES[error.code] ?? 'daemon', `containerd, ${what}: ${error.details}`, { cause: error });
}
