import { safeUrl } from '../http/errors.ts';
import type { Led } from '../http/moved.ts';
import { type HttpNetwork, send } from '../http/network.ts';
import { isRedirect, MAX_HOPS, redirectTarget, tooManyHops } from '../http/redirect.ts';
import type { HttpResponse } from '../http/request.ts';
import { type Hub, hubAddress } from './hub.ts';

export interface HubQuestion {
  /** Path and query below the endpoint. */
  path: string;
  headers: Record<string, string>;
  /** For errors. */
  what: string;
}

/**
 * Asks a hub, and follows it to the hosts that its driver or the settings name. The token goes to the hub itself alone.
 * Any status comes back but redirects.
 * @throws NymphError
 */
export async function askHub(network: HttpNetwork, hub: Hub, question: HubQuestion, signal: AbortSignal): Promise<Led> {
  hub.requireOnline();
  const start = hubAddress(hub, question.path);
  let url = start;
  for (let hop = 0; hop <= MAX_HOPS; hop++) {
    const response = await askAddress(network, hub, url, question, signal);
    if (!isRedirect(response)) return url === start ? { response } : { response, target: url };
    const next = await redirectTarget(response, url, question.what);
    network.log.debug({ from: url.host, to: safeUrl(next) }, 'redirected');
    url = next;
  }
  throw tooManyHops(start.host, question.what);
}

/** Asks one address, which a hub has given or is; no redirects. */
export async function askAddress(
  network: HttpNetwork,
  hub: Hub,
  url: URL,
  { headers, what }: HubQuestion,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const place = hub.admit(url, what);
  const own = url.origin === hub.endpoint.url.origin ? await hub.authorization() : {};
  return send(network, { method: 'GET', url, headers: { ...headers, ...own } }, place, hub.errors, what, signal);
}
