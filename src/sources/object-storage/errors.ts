import { NymphError } from '../../errors.ts';
import { parseRetryAfter, placeErrors } from '../http/errors.ts';
import { type HttpResponse, readUpTo } from '../http/request.ts';

/** An answer that is not a success, with what its XML says (S3 "Error Responses"; OSS has the same form). */
export interface StorageRefusal {
  status: number;
  /** `NoSuchKey`; `''` where the body has none. */
  code: string;
  message: string;
  /** Where the bucket is, of redirects and of signatures for another region. */
  region?: string;
  endpoint?: string;
  /** The clock of the other side, Unix time in ms. */
  time?: number;
  retryAfter?: string;
}

const BODY_LIMIT = 16 * 1024;

export const STORAGE_ERRORS = placeErrors(
  {
    denied: () => 'Check the access keys, and that they may read the bucket.',
    limited: 'The object storage limits requests.',
    trust: 'Name the CA in `ca_cert_files`, or add it to the trusted certificates of this machine.',
    plain: 'If the storage speaks plain HTTP, say `"scheme": "http"`.',
  },
  (body) => {
    const { code, message } = parseBody(body);
    return [code, message].filter((word) => word !== '').join(': ');
  },
);

/** Reads a refusal; takes the body of the answer. */
export async function readRefusal(response: HttpResponse): Promise<StorageRefusal> {
  // A body that breaks off says as much as it says.
  const body = await readUpTo(response, BODY_LIMIT).catch(() => Buffer.alloc(0));
  const parsed = parseBody(body.toString('utf8'));
  const region = response.header('x-amz-bucket-region') ?? parsed.region;
  const time = Date.parse(response.header('date') ?? '');
  const retryAfter = response.header('retry-after');
  return {
    status: response.status,
    code: parsed.code,
    message: parsed.message,
    ...(region && /^[A-Za-z0-9-]{1,64}$/.test(region) ? { region } : {}),
    ...(parsed.endpoint && isHost(parsed.endpoint) ? { endpoint: parsed.endpoint } : {}),
    ...(Number.isNaN(time) ? {} : { time }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  };
}

function isHost(text: string): boolean {
  return /^[A-Za-z0-9.-]+(:\d{1,5})?$/.test(text) && URL.canParse(`https://${text}/`);
}

function parseBody(body: string): { code: string; message: string; region?: string; endpoint?: string } {
  const element = (name: string) => new RegExp(`<${name}>([^<]{0,1000})</${name}>`).exec(body)?.[1].trim();
  return {
    code: element('Code') ?? '',
    message: element('Message') ?? '',
    region: element('Region'),
    endpoint: element('Endpoint'),
  };
}

const EXPIRED = new Set([
  'ExpiredToken',
  'InvalidToken',
  'TokenRefreshRequired',
  'SecurityTokenExpired',
  'InvalidSecurityToken',
  'RequestExpired',
]);
const WRONG_KEYS = new Set(['InvalidAccessKeyId', 'SignatureDoesNotMatch', 'InvalidSecurity', 'AuthFailure']);

/**
 * The error for a refusal that cannot be put right.
 * @param settings where the keys come from, for people: `/etc/nydusd.json`
 */
export function refusalError(
  refusal: StorageRefusal,
  what: string,
  host: string,
  bucket: string,
  settings: string,
): NymphError {
  const { status, code } = refusal;
  const words = [code, refusal.message]
    .filter((word) => word !== '')
    .join(': ')
    .replace(/https?:\/\/\S+/g, '[url]')
    .replace(/[^\x20-\x7e]/g, ' ')
    .slice(0, 200);
  const message = `${host} did not give ${what}: status ${status}${words ? ` (${words})` : ''}`;
  const denied = (hint: string) => new NymphError('denied', message, { hint });
  if (EXPIRED.has(code))
    return denied(
      `The temporary keys have expired: write new ones into ${settings}; it is read again, nothing has to be restarted.`,
    );
  if (WRONG_KEYS.has(code)) return denied(`access_key_id and access_key_secret in ${settings} are not the bucket’s.`);
  if (code === 'RequestTimeTooSkewed') return denied('Set the clock of this machine.');
  if (code === 'NoSuchBucket')
    return new NymphError('not-found', message, { hint: `Check bucket_name (${bucket}) and endpoint in ${settings}.` });
  if (status === 401 || status === 403)
    return denied(
      `The keys in ${settings} may not read this object of ${bucket}; some storages also say so of objects that are not there.`,
    );
  if (status === 404 || status === 410)
    return new NymphError('not-found', message, { hint: `Check bucket_name and object_prefix in ${settings}.` });
  const retryable =
    status === 408 || status === 429 || status >= 500 || code === 'RequestTimeout' || code === 'SlowDown';
  return new NymphError('source', message, {
    retryable,
    ...(retryable ? { retryAfter: parseRetryAfter(refusal.retryAfter) } : {}),
  });
}
