import type { HttpRequest } from './request.ts';

/**
 * What a server says is shown to people and logged; one that is hostile, or helpful, says back what it was told. So what
 * may grant access in a request is taken out of its answer's words.
 */

const HARMLESS = new Set([
  'accept',
  'accept-encoding',
  'content-length',
  'content-type',
  'host',
  'range',
  'user-agent',
]);
/** Of a form that asks for a token. */
const HARMLESS_FIELDS = new Set(['grant_type', 'service', 'client_id', 'scope', 'access_type', 'username', 'account']);
/** Shorter ones would tear words apart, and are no secrets. */
const LEAST = 4;
/** Also what others have added on the way, such as a proxy's own login. */
const LOGINS = /\b(basic|bearer|digest|negotiate|token)(["':=\s]+)[\w+/=.~-]{8,}/gi;

/** @returns the text without what `request` told in confidence */
export function withoutSecrets(
  text: string,
  { headers, body, url }: Pick<HttpRequest, 'headers' | 'body' | 'url'>,
): string {
  const secrets = Object.entries(headers)
    .filter(([name]) => !HARMLESS.has(name.toLowerCase()))
    .flatMap(([, value]) => [value].flat().flatMap(partsOf));
  if (typeof body === 'string') secrets.push(...fieldsOf(new URLSearchParams(body)));
  secrets.push(...fieldsOf(url.searchParams));
  // The longest first: a shorter one may be a part of it.
  const all = [...new Set(secrets)].filter((secret) => secret.length >= LEAST).sort((a, b) => b.length - a.length);
  return all.reduce((rest, secret) => rest.replaceAll(secret, '…'), text).replace(LOGINS, '$1$2…');
}

/** `Bearer TOKEN`; of `Basic …` what it stands for, too. */
function partsOf(value: string): string[] {
  const [scheme, token] = value.split(' ', 2);
  if (token === undefined) return [value];
  if (scheme.toLowerCase() !== 'basic') return [value, token];
  const login = Buffer.from(token, 'base64').toString('utf8');
  return [value, token, token.replace(/=+$/, ''), login, login.slice(login.indexOf(':') + 1)];
}

function fieldsOf(fields: URLSearchParams): string[] {
  return [...fields].filter(([name]) => !HARMLESS_FIELDS.has(name)).map(([, value]) => value);
}
