import { NymphError } from '../errors.ts';
import { isPublicHost } from './hosts.ts';
import type { Description, DriverRequest } from './plugin.ts';
import { isScheme } from './scheme.ts';

/**
 * What a driver says is checked before anything is done with it: a driver may lie. Everything that is wrong is an error
 * of code `corrupt` that names the driver's scheme, and what it said.
 */

/** Headers that are nymph's own, or that would change whom a request goes to. */
const OWN_HEADERS =
  /^(?:host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|range|accept-encoding|keep-alive|proxy-.*|forwarded|x-forwarded-.*)$/;
const MAX_TEXT = 2048;
const MAX_REDIRECTS = 64;
const MAX_TOKEN_HEADERS = 8;

/** @throws NymphError `corrupt` */
export function checkDescription(value: unknown): Description {
  const { scheme, endpoint, redirects, tokenHeaders } = (value ?? {}) as Record<string, unknown>;
  if (typeof scheme !== 'string' || !isScheme(scheme)) throw lied('a driver', 'its scheme', scheme, 'is none');
  const driver = `the driver of ${scheme}://`;
  const url = checkEndpoint(driver, endpoint);
  if (!Array.isArray(redirects) || redirects.length > MAX_REDIRECTS)
    throw lied(driver, 'its redirects', undefined, `are no list of at most ${MAX_REDIRECTS} hosts`);
  if (!Array.isArray(tokenHeaders) || tokenHeaders.length > MAX_TOKEN_HEADERS)
    throw lied(driver, 'its token headers', undefined, `are no list of at most ${MAX_TOKEN_HEADERS}`);
  return {
    scheme,
    endpoint: url.href.replace(/\/$/, ''),
    redirects: redirects.map((host) => checkHost(driver, host)),
    tokenHeaders: tokenHeaders.map((header) => checkTokenHeader(driver, header)),
  };
}

/**
 * A request of a driver, or the location of one of its files: a path and a query below the endpoint, whose host it cannot
 * name.
 * @throws NymphError `corrupt`
 */
export function checkLocation(driver: string, what: string, path: unknown): string {
  if (typeof path !== 'string' || path === '') throw lied(driver, what, path, 'is no path');
  if (path.length > MAX_TEXT * 4) throw lied(driver, what, path, 'is too long');
  if (!/^\/(?![/\\])[\x21-\x7e]*$/.test(path) || path.includes('\\') || path.includes('#'))
    throw lied(driver, what, path, 'is no path below its endpoint: it begins with one /, and is encoded');
  // As a server may read it: `%2e%2e` leads upwards as `..` does.
  const segments = path.split('?', 1)[0].replace(/%2e/gi, '.').split('/');
  if (segments.includes('..') || segments.includes('.')) throw lied(driver, what, path, 'leads upwards');
  return path;
}

/** @throws NymphError `corrupt` */
export function checkRequest(driver: string, value: unknown): DriverRequest {
  const { path, accept } = (value ?? {}) as Record<string, unknown>;
  const checked = checkLocation(driver, 'the request', path);
  if (accept === undefined) return { path: checked };
  if (typeof accept !== 'string' || !/^[\x20-\x7e]{1,256}$/.test(accept))
    throw lied(driver, 'accept', accept, 'is no value of a header');
  return { path: checked, accept };
}

/** The error for a driver that says what cannot be. What it said is shown short, and as JSON. */
export function lied(driver: string, what: string, said: unknown, why: string): NymphError {
  const shown = ['string', 'number', 'bigint'].includes(typeof said)
    ? ` ${JSON.stringify(String(said).slice(0, 200))}`
    : '';
  return new NymphError('corrupt', `${driver} is wrong: ${what}${shown} ${why}`, {
    hint: 'Ask who made the plugin for a better one, or remove it with `nymph plugin rm`.',
  });
}

function checkEndpoint(driver: string, endpoint: unknown): URL {
  if (typeof endpoint !== 'string' || endpoint.length > MAX_TEXT || !URL.canParse(endpoint))
    throw lied(driver, 'its endpoint', endpoint, 'is no address');
  const url = new URL(endpoint);
  if (url.protocol !== 'https:') throw lied(driver, 'its endpoint', endpoint, 'is not https');
  if (url.username || url.password || url.search || url.hash)
    throw lied(driver, 'its endpoint', endpoint, 'has more than a host and a path');
  if (!isPublicHost(url.host)) throw lied(driver, 'its endpoint', endpoint, NOT_PUBLIC);
  return url;
}

function checkHost(driver: string, host: unknown): string {
  const text = typeof host === 'string' ? host.toLowerCase() : '';
  if (!isPublicHost(text)) throw lied(driver, 'the redirect to', host, NOT_PUBLIC);
  return text;
}

const NOT_PUBLIC = 'is not the name of a host in the internet: others only the configuration can name, in [hub]';

function checkTokenHeader(driver: string, header: unknown): [string, string] {
  const [name, value] = Array.isArray(header) ? header : [];
  if (
    typeof name !== 'string' ||
    !/^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$/i.test(name) ||
    OWN_HEADERS.test(name.toLowerCase())
  )
    throw lied(driver, 'the token header', name, 'cannot carry a token');
  if (typeof value !== 'string' || !/^[\x20-\x7e]{1,256}$/.test(value) || value.split('{token}').length !== 2)
    throw lied(driver, `the token header ${name}:`, value, 'must have {token} once');
  return [name.toLowerCase(), value];
}
