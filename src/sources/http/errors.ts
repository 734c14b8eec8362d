import { NymphError, type NymphErrorOptions } from '../../errors.ts';
import { type HttpResponse, readUpTo } from './request.ts';
import { withoutSecrets } from './said-back.ts';

/** Longest wait that a server can ask for, ms: more is taken for a mistake of its clock. */
const MAX_RETRY_AFTER = 3_600_000;

/**
 * Reads `Retry-After`: seconds, or an HTTP date (RFC 9110 §10.2.3).
 * @returns milliseconds from `now`, at least 0; `undefined` if it is absent or nonsense
 */
export function parseRetryAfter(value: string | undefined, now: number = Date.now()): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d{1,9}\s*$/.test(value)) return Math.min(Number(value) * 1000, MAX_RETRY_AFTER);
  const date = /[a-z]/i.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.min(Math.max(0, date - now), MAX_RETRY_AFTER);
}

/**
 * Reads `RateLimit: "api";r=0;t=55`: nothing is left for 55 seconds (draft-ietf-httpapi-ratelimit-headers-09).
 * @returns milliseconds; `undefined` if it is absent, nonsense, or something is left
 */
export function parseRateLimit(value: string | undefined): number | undefined {
  const match = /;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})/.exec(value ?? '');
  return match === null ? undefined : Math.min(Number(match[1]) * 1000, MAX_RETRY_AFTER);
}

/** An address without what may grant access: no user, password or query. */
export function safeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** What people are told to do; each kind of place has its own remedies. `denied` is a function of the host. */
export interface Advice {
  denied(host: string): string;
  limited: string;
  trust: string;
  plain: string;
}

/** How a kind of place explains its errors. */
export interface PlaceErrors {
  /** For an answer that is not a success; reads the start of its body for the place's own words. */
  status(response: HttpResponse, what: string, host: string): Promise<NymphError>;
  /** For a connection that failed, or an answer that is not HTTP. */
  transport(error: unknown, what: string, host: string): NymphError;
}

/** What a place says in a refusal: out of its body, and of its headers. */
type OwnWords = (body: string, response: HttpResponse) => string;

/** {@link PlaceErrors} from the place's remedies, and from how it puts its own words into a body. */
export function placeErrors(advice: Advice, ownWords: OwnWords): PlaceErrors {
  return {
    status: async (response, what, host) => statusError(response, await words(response, ownWords), what, host, advice),
    transport: (error, what, host) => transportError(error, what, host, advice),
  };
}

/** @param what what was asked for: `blob sha256:…`; @param host who answered, for people */
function statusError(response: HttpResponse, ownWords: string, what: string, host: string, advice: Advice): NymphError {
  const message = `${host} did not give ${what}: status ${response.status}${ownWords ? ` (${ownWords})` : ''}`;
  const { status } = response;
  const retryAfter = parseRetryAfter(response.header('retry-after')) ?? parseRateLimit(response.header('ratelimit'));
  if (status === 401 || status === 403) return new NymphError('denied', message, { hint: advice.denied(host) });
  if (status === 404 || status === 410) return new NymphError('not-found', message);
  if (status === 429) return new NymphError('source', message, { retryable: true, retryAfter, hint: advice.limited });
  const retryable = status === 408 || status === 425 || status >= 500;
  return new NymphError('source', message, { retryable, ...(retryable ? { retryAfter } : {}) });
}

function transportError(error: unknown, what: string, host: string, advice: Advice): NymphError {
  if (error instanceof NymphError) return error;
  const { code, hint, retryable, timeout } = explain(error, advice);
  return new NymphError(timeout ? 'timeout' : 'source', `cannot read ${what} from ${host}: ${code}`, {
    retryable,
    hint,
    cause: error,
  });
}

type Explanation = { code: string; timeout?: boolean } & Pick<NymphErrorOptions, 'hint' | 'retryable'>;

function explain(error: unknown, advice: Advice): Explanation {
  const { code, message } = rootOf(error);
  if (code.includes('TIMEOUT') || code === 'ETIMEDOUT')
    return { code: TIMEOUT_TEXT[code] ?? 'timed out', timeout: true, retryable: true };
  if (TLS_TRUST.test(code))
    return {
      code: `its certificate is not trusted (${code})`,
      retryable: false,
      hint: advice.trust,
    };
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || /wrong version number|packet length too long/.test(message))
    return {
      code: 'it does not speak TLS',
      retryable: false,
      hint: advice.plain,
    };
  const reach = UNREACHABLE[code];
  if (reach)
    return {
      code: `${reach} (${code})`,
      retryable: true,
      hint: 'Check the name in the reference, and that this machine reaches it.',
    };
  return { code: (code || message || 'connection failed').slice(0, 200), retryable: true };
}

const UNREACHABLE: Record<string, string | undefined> = {
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the name server does not answer',
  ECONNREFUSED: 'nobody listens there',
  EHOSTUNREACH: 'there is no way to the host',
  ENETUNREACH: 'there is no way to its network',
};
const TLS_TRUST = /^(CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_TLS_CERT|HOSTNAME_MISMATCH)/;

const TIMEOUT_TEXT: Record<string, string> = {
  UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
  UND_ERR_HEADERS_TIMEOUT: 'no answer in time',
  UND_ERR_BODY_TIMEOUT: 'the body stalled',
};

/** Code and message of the innermost cause: happy eyeballs and proxies wrap the real one. */
function rootOf(error: unknown): { code: string; message: string } {
  let found = error;
  for (let depth = 0; depth < 8; depth++) {
    const inner = found as { cause?: unknown; errors?: unknown[] } | undefined;
    const next = inner?.errors?.[0] ?? inner?.cause;
    if (!(next instanceof Error)) break;
    found = next;
  }
  const { code, message } = (found ?? {}) as { code?: unknown; message?: unknown };
  if (code === 'UND_ERR_SOCKET') return { code: '', message: `the connection was closed (${message})` };
  return { code: typeof code === 'string' ? code : '', message: typeof message === 'string' ? message : '' };
}

/** What a body says, short and printable. */
async function words(response: HttpResponse, ownWords: OwnWords): Promise<string> {
  try {
    const said = ownWords((await readUpTo(response, 8192)).toString('utf8'), response);
    return withoutSecrets(said, response.request)
      .replace(/https?:\/\/\S+/g, '[url]')
      .replace(/[^\x20-\x7e]/g, ' ')
      .slice(0, 200);
  } catch {
    // The body is a help for people; an answer without one is as good.
    return '';
  }
}
