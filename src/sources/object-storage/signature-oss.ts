import { createHmac } from 'node:crypto';
import type { AccessKeys } from './bucket.ts';

/** What is signed. Names of headers in lower case. */
export interface SigningInput {
  method: string;
  /** `/bucket/key`, as it is: not encoded. */
  resource: string;
  /** Of these, `content-md5`, `content-type` and those of OSS are signed. */
  headers: Record<string, string>;
  keys: AccessKeys;
  time: Date;
}

/**
 * Signs a request (Alibaba Cloud OSS "Include signatures in the Authorization header", version 1).
 * @returns the headers to add, `authorization` among them
 */
export function signOss({ method, resource, headers, keys, time }: SigningInput): Record<string, string> {
  const date = time.toUTCString();
  const token: Record<string, string> = keys.token === undefined ? {} : { 'x-oss-security-token': keys.token };
  const lines = Object.entries({ ...headers, ...token })
    .filter(([name]) => name.startsWith('x-oss-'))
    .map(([name, value]) => `${name}:${value.trim()}`)
    .sort();
  const text = [method, headers['content-md5'] ?? '', headers['content-type'] ?? '', date, ...lines, resource].join(
    '\n',
  );
  const proof = createHmac('sha1', keys.secret).update(text).digest('base64');
  return { date, ...token, authorization: `OSS ${keys.id}:${proof}` };
}
