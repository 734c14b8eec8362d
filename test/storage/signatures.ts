/**
 * Checks signatures as object storages do, from their specifications and not with the code that signs: from the raw
 * request backwards.
 */
import { createHash, createHmac } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

export interface Keys {
  id: string;
  secret: string;
  token?: string;
}

/** Why a request is refused: an error code of S3 or OSS. */
export type Refusal =
  | 'AccessDenied'
  | 'AuthorizationHeaderMalformed'
  | 'InvalidAccessKeyId'
  | 'InvalidToken'
  | 'RequestTimeTooSkewed'
  | 'SignatureDoesNotMatch';

const LARGEST_SKEW = 15 * 60_000;

/**
 * Amazon's Signature Version 4, header form. Strict: what has to be signed is.
 * @param target path and query as they came; @param now the server's clock, Unix time in ms
 */
export function checkV4(
  request: IncomingMessage,
  target: string,
  keys: Keys,
  region: string,
  now: number,
): Refusal | undefined {
  const { headers } = request;
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? '',
    );
  if (!match) return 'AccessDenied';
  const [, id, day, asked, signedHeaders, signature] = match;
  if (id !== keys.id) return 'InvalidAccessKeyId';
  if (asked !== region) return 'AuthorizationHeaderMalformed';
  const date = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(String(headers['x-amz-date']));
  if (!date || !String(headers['x-amz-date']).startsWith(day)) return 'AccessDenied';
  const [year, month, dayOfMonth, hour, minute, second] = date.slice(1).map(Number);
  if (Math.abs(Date.UTC(year, month - 1, dayOfMonth, hour, minute, second) - now) > LARGEST_SKEW)
    return 'RequestTimeTooSkewed';
  if ((headers['x-amz-security-token'] ?? undefined) !== keys.token) return 'InvalidToken';
  const names = signedHeaders.split(';');
  const needed = ['host', ...Object.keys(headers).filter((name) => name.startsWith('x-amz-'))];
  if (needed.some((name) => !names.includes(name)) || names.join() !== [...names].sort().join()) return 'AccessDenied';
  const question = target.indexOf('?');
  const path = question < 0 ? target : target.slice(0, question);
  const query = question < 0 ? [] : target.slice(question + 1).split('&');
  const canonical = `${request.method}\n${path}\n${query.sort().join('&')}\n${names
    .map((name) => `${name}:${headers[name]}\n`)
    .join('')}\n${signedHeaders}\n${headers['x-amz-content-sha256']}`;
  const digest = createHash('sha256').update(canonical).digest('hex');
  let key: Buffer = Buffer.from(`AWS4${keys.secret}`);
  for (const step of [day, region, 's3', 'aws4_request']) key = createHmac('sha256', key).update(step).digest();
  const text = `AWS4-HMAC-SHA256\n${headers['x-amz-date']}\n${day}/${region}/s3/aws4_request\n${digest}`;
  return createHmac('sha256', key).update(text).digest('hex') === signature ? undefined : 'SignatureDoesNotMatch';
}

/** Alibaba Cloud OSS, signature version 1, header form. @param resource `/bucket/key` */
export function checkOss(request: IncomingMessage, resource: string, keys: Keys, now: number): Refusal | undefined {
  const { headers } = request;
  const match = /^OSS ([^:]+):([A-Za-z0-9+/]+=*)$/.exec(headers.authorization ?? '');
  if (!match) return 'AccessDenied';
  if (match[1] !== keys.id) return 'InvalidAccessKeyId';
  if (!(Math.abs(Date.parse(headers.date ?? '') - now) <= LARGEST_SKEW)) return 'RequestTimeTooSkewed';
  if ((headers['x-oss-security-token'] ?? undefined) !== keys.token) return 'InvalidToken';
  let text = `${request.method}\n${headers['content-md5'] ?? ''}\n${headers['content-type'] ?? ''}\n${headers.date}\n`;
  for (const name of Object.keys(headers).sort()) if (name.startsWith('x-oss-')) text += `${name}:${headers[name]}\n`;
  const proof = createHmac('sha1', keys.secret).update(text + resource);
  return proof.digest('base64') === match[2] ? undefined : 'SignatureDoesNotMatch';
}
