import { createHmac, hash } from 'node:crypto';
import type { AccessKeys } from './bucket.ts';

/** A request without a body, and what it is signed for. Names of headers in lower case. */
export interface SigningInput {
  method: string;
  /** Path encoded as it is sent; its query is signed, too. */
  url: URL;
  /** Headers to sign, beside `host` and what is added here. */
  headers: Record<string, string>;
  keys: AccessKeys;
  region: string;
  service: string;
  time: Date;
}

/** SHA-256 of nothing: what a GET has as its body. */
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const ALGORITHM = 'AWS4-HMAC-SHA256';

/**
 * Signs a request (AWS "Signature Version 4", with S3's way of encoding the path once).
 * @returns the headers to add, `authorization` among them
 */
export function signV4({ method, url, headers, keys, region, service, time }: SigningInput): Record<string, string> {
  const date = time.toISOString().replace(/[-:]|\.\d{3}/g, '');
  const added: Record<string, string> = {
    'x-amz-content-sha256': EMPTY,
    'x-amz-date': date,
    ...(keys.token === undefined ? {} : { 'x-amz-security-token': keys.token }),
  };
  const signed = Object.entries({ ...headers, ...added, host: url.host })
    .map(([name, value]) => [name.toLowerCase(), value.trim().replace(/ +/g, ' ')])
    .sort(byName);
  const names = signed.map(([name]) => name).join(';');
  const request = [
    method,
    url.pathname,
    canonicalQuery(url),
    ...signed.map(([name, value]) => `${name}:${value}`),
    '',
    names,
    EMPTY,
  ].join('\n');
  const scope = `${date.slice(0, 8)}/${region}/${service}/aws4_request`;
  const text = [ALGORITHM, date, scope, hash('sha256', request, 'hex')].join('\n');
  const signature = scope.split('/').reduce<string | Buffer>((key, part) => hmac(key, part), `AWS4${keys.secret}`);
  const proof = hmac(signature, text).toString('hex');
  return {
    ...added,
    authorization: `${ALGORITHM} Credential=${keys.id}/${scope}, SignedHeaders=${names}, Signature=${proof}`,
  };
}

function canonicalQuery({ searchParams }: URL): string {
  const encode = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  return [...searchParams]
    .map(([name, value]) => [encode(name), encode(value)])
    .sort(byName)
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
}

function byName([a, v]: string[], [b, w]: string[]): number {
  if (a !== b) return a < b ? -1 : 1;
  return v < w ? -1 : v > w ? 1 : 0;
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
