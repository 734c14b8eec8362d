import { NymphError } from '../../errors.ts';
import { discard, type HttpResponse } from './request.ts';

export const MAX_HOPS = 5;

/** True for an answer that sends the caller elsewhere. */
export function isRedirect({ status }: HttpResponse): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

/**
 * Where a redirect leads, without user and password; its body is dropped.
 * @param from what was asked; @param what for errors: `blob sha256:…`
 * @throws NymphError `source`
 */
export async function redirectTarget(response: HttpResponse, from: URL, what: string): Promise<URL> {
  const location = response.header('location') ?? '';
  await discard(response);
  if (location === '' || !URL.canParse(location, from.href))
    throw new NymphError('source', `${from.host} redirects ${what} to nowhere`, { retryable: true });
  const next = new URL(location, from.href);
  if (next.protocol !== 'https:' && next.protocol !== 'http:')
    throw new NymphError('source', `${from.host} redirects ${what} to a ${next.protocol} address`);
  next.username = '';
  next.password = '';
  return next;
}

export function tooManyHops(host: string, what: string): NymphError {
  return new NymphError('source', `${host} redirects ${what} more than ${MAX_HOPS} times`);
}
