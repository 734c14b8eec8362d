import type { ServiceError } from '@grpc/grpc-js';
import { NymphError } from '../../errors.ts';
import { parseRetryAfter } from '../http/errors.ts';
import { STATUS } from './status.ts';

/** What becomes of a download that dfdaemon has refused or given up. */
export type Verdict =
  /** The same may succeed in a while. */
  | 'retry'
  /** The origin wants another login. */
  | 'login'
  /** The origin does not have it: another one may. */
  | 'place'
  /** Dragonfly is of no use for this object: it comes from elsewhere. */
  | 'elsewhere'
  /** Dragonfly is of no use at all until something has changed: nobody answers, or not as it should. */
  | 'give up';

/** What the origin said, where dfdaemon passes that on. */
interface BackendAnswer {
  message: string;
  status?: number;
  retryAfter?: number;
}

export interface Judgement {
  verdict: Verdict;
  error: NymphError;
}

/** @param what `blob sha256:…` @param failure what a call of grpc-js has thrown */
export function judge(what: string, failure: unknown): Judgement {
  if (failure instanceof NymphError) return { verdict: failure.retryable ? 'retry' : 'elsewhere', error: failure };
  const { code, details, message } = failure as Partial<ServiceError>;
  const backend = backendAnswer(failure as Partial<ServiceError>);
  const verdict = backend === undefined ? verdictOfStatus(code, details) : verdictOfOrigin(backend.status);
  const said = (backend === undefined ? (details ?? message ?? 'it failed') : ofOrigin(backend)).slice(0, 300);
  const error = new NymphError(verdict === 'login' ? 'denied' : 'source', `dfdaemon did not give ${what}: ${said}`, {
    retryable: verdict === 'retry',
    retryAfter: backend?.retryAfter,
    cause: failure,
  });
  return { verdict, error };
}

/** What they say of a task that they have never met: dfdaemon itself, and the scheduler, whose answer it wraps (client 1.5). */
export function isNotFound(failure: unknown): boolean {
  const { code, details = '' } = failure as Partial<ServiceError>;
  return code === STATUS['not found'] || (code === STATUS.internal && /task \S+ not found/.test(details));
}

function ofOrigin({ status, message }: BackendAnswer): string {
  return `the origin answered ${status ?? 'wrongly'}${message ? ` (${message})` : ''}`;
}

function verdictOfStatus(code: number | undefined, details = ''): Verdict {
  switch (code) {
    // Nobody listens on the socket, or a daemon goes away (it was not us who cancelled).
    case STATUS.unavailable:
    case STATUS.cancelled:
    case STATUS.unimplemented:
      return 'give up';
    case STATUS['resource exhausted']:
    case STATUS.aborted:
    case STATUS.unknown:
    case STATUS['deadline exceeded']:
    // No peer has it, or none any more; its disk is full; the scheduler is away.
    case STATUS.internal:
      return /unimplemented/i.test(details) ? 'give up' : 'retry';
    default:
      // Block lists, and what it takes for a mistake of ours.
      return 'elsewhere';
  }
}

/** By the status with which the origin answered dfdaemon. */
export function verdictOfOrigin(status: number | undefined): Verdict {
  if (status === 401 || status === 403) return 'login';
  if (status === 404 || status === 410) return 'place';
  if (status === undefined || status === 408 || status === 425 || status === 429 || status >= 500) return 'retry';
  return 'elsewhere';
}

/** The origin's answer stands in a trailer, as plain JSON and not as gRPC would have it. */
function backendAnswer({ metadata }: Partial<ServiceError>): BackendAnswer | undefined {
  const [trailer] = metadata?.get?.('grpc-status-details-bin') ?? [];
  if (trailer === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(trailer.toString('utf8'));
    if (typeof value !== 'object' || value === null) return undefined;
    const { message, status_code: status, header } = value as Record<string, unknown>;
    const headers = typeof header === 'object' && header !== null ? Object.entries(header) : [];
    const after = headers.find(([name]) => name.toLowerCase() === 'retry-after')?.[1];
    return {
      message: typeof message === 'string' ? printable(message) : '',
      ...(Number.isInteger(status) ? { status: status as number } : {}),
      retryAfter: parseRetryAfter(typeof after === 'string' ? after : undefined),
    };
  } catch {
    // Another daemon's trailer: the status itself says enough.
    return undefined;
  }
}

/** Addresses may be signed: they have no place in a log. */
function printable(text: string): string {
  return text
    .replace(/https?:\/\/\S+/g, '[url]')
    .replace(/[^\x20-\x7e]/g, ' ')
    .slice(0, 200);
}
