import { NymphError, type NymphErrorOptions } from '../../errors.ts';
import { type HttpResponse, readUpTo } from './http.ts';

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

/** An address without what may grant access: no user, password or query. */
export function safeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/**
 * The error for an answer that is not a success. Reads the start of its body for the registry's own words.
 * @param what what was asked for: `blob sha256:…`
 * @param host who answered, for people
 */
export async function statusError(response: HttpResponse, what: string, host: string): Promise<NymphError> {
  const words = await registryWords(response);
  const message = `${host} did not give ${what}: status ${response.status}${words ? ` (${words})` : ''}`;
  const { status } = response;
  const retryAfter = parseRetryAfter(response.header('retry-after'));
  if (status === 401 || status === 403)
    return new NymphError('denied', message, { hint: `Log in to ${host}, or check that the image may be read.` });
  if (status === 404 || status === 410) return new NymphError('not-found', message);
  if (status === 429)
    return new NymphError('source', message, {
      retryable: true,
      retryAfter,
      hint: 'The registry limits requests: log in, or set up a mirror in hosts.toml.',
    });
  const retryable = status === 408 || status === 425 || status >= 500;
  return new NymphError('source', message, { retryable, ...(retryable ? { retryAfter } : {}) });
}

/** The error for a connection that failed, or an answer that is not HTTP. */
export function transportError(error: unknown, what: string, host: string): NymphError {
  if (error instanceof NymphError) return error;
  const { code, hint, retryable, timeout } = explain(error);
  return new NymphError(timeout ? 'timeout' : 'source', `cannot read ${what} from ${host}: ${code}`, {
    retryable,
    hint,
    cause: error,
  });
}

type Explanation = { code: string; timeout?: boolean } & Pick<NymphErrorOptions, 'hint' | 'retryable'>;

function explain(error: unknown): Explanation {
  const { code, message } = rootOf(error);
  if (code.includes('TIMEOUT') || code === 'ETIMEDOUT')
    return { code: TIMEOUT_TEXT[code] ?? 'timed out', timeout: true, retryable: true };
  if (TLS_TRUST.test(code))
    return {
      code: `its certificate is not trusted (${code})`,
      retryable: false,
      hint: 'Name the CA in hosts.toml (`ca = "…"`), or add it to the trusted certificates of this machine.',
    };
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || /wrong version number|packet length too long/.test(message))
    return {
      code: 'it does not speak TLS',
      retryable: false,
      hint: 'If it is a plain HTTP registry, list it in `plain_http` or as `http://…` in hosts.toml.',
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

/** Code and message that the registry gave (distribution-spec "Error Codes"), short and printable. */
async function registryWords(response: HttpResponse): Promise<string> {
  try {
    const text = (await readUpTo(response, 8192)).toString('utf8');
    const { errors } = JSON.parse(text) as { errors?: { code?: unknown; message?: unknown }[] };
    const { code, message } = errors?.[0] ?? {};
    const words = [code, message].filter((word) => typeof word === 'string' && word !== '').join(': ');
    return words
      .replace(/https?:\/\/\S+/g, '[url]')
      .replace(/[^\x20-\x7e]/g, ' ')
      .slice(0, 200);
  } catch {
    // The body is a help for people; an answer without one is as good.
    return '';
  }
}
