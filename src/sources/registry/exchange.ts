import { NymphError } from '../../errors.ts';
import { safeUrl } from '../http/errors.ts';
import { send } from '../http/network.ts';
import { isRedirect, MAX_HOPS, redirectTarget, tooManyHops } from '../http/redirect.ts';
import { discard, type HttpMethod, type HttpRequest, type HttpResponse } from '../http/request.ts';
import { cancelled } from '../retry.ts';
import type { Refusals, Scope } from './auth.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { REGISTRY_ERRORS } from './errors.ts';
import type { RegistryNetwork } from './network.ts';

export interface Question {
  repository: string;
  /** Below the repository: `blobs/sha256:…`; or the address of an upload, as the registry gave it. */
  path: string | URL;
  headers: Record<string, string>;
  /** `GET` by default. */
  method?: HttpMethod;
  /** Made anew for each time that it is sent. */
  body?: () => HttpRequest['body'];
  /** `pull` by default. */
  access?: Scope['access'];
  /** For errors: `blob sha256:…`. */
  what: string;
}

export interface Answer {
  response: HttpResponse;
  /** Where the answer came from, if the endpoint sent us elsewhere. Holds secrets in its query. */
  target?: URL;
}

/** Headers that are tried for one question. */
const MAX_LOGINS = 12;

/**
 * Asks one endpoint: logs in where it wants that, and follows redirects. Another host gets neither `Authorization` nor
 * the headers that are configured for the endpoint. Any status comes back but refusals and redirects.
 * @throws NymphError `denied`, `source`, `timeout`, `cancelled`
 */
export async function ask(
  network: RegistryNetwork,
  endpoint: RegistryEndpoint,
  question: Question,
  signal: AbortSignal,
): Promise<Answer> {
  const { repository, what, access = 'pull' } = question;
  const url = addressOf(endpoint, question);
  const scope: Scope = { repository, access };

  let authorization = await guarded(network.authorizer.current(endpoint, scope, signal), what, endpoint, signal);
  const refusals: Refusals = { headers: new Set(), obtained: new Set(), credentials: new Set() };
  for (let login = 0; ; login++) {
    const answer = await walk(network, endpoint, url, question, authorization, signal);
    const { status } = answer.response;
    // Some say 403 to a login that has expired, or that may not read this repository while another may.
    const own = !answer.target && url.origin === endpoint.url.origin;
    const refused = own && (status === 401 || (status === 403 && authorization !== undefined));
    if (!refused) return answer;
    const challenges = answer.response.all('www-authenticate');
    const error = await REGISTRY_ERRORS.status(answer.response, what, endpoint.url.host);
    const next =
      login === MAX_LOGINS
        ? undefined
        : await guarded(
            network.authorizer.answer(endpoint, scope, challenges, authorization, refusals, signal),
            what,
            endpoint,
            signal,
          );
    if (next === undefined)
      throw new NymphError('denied', error.message, { hint: network.authorizer.refused(endpoint, scope) });
    authorization = next;
  }
}

/** Where an endpoint is asked a question. */
export function addressOf(endpoint: RegistryEndpoint, { path, repository }: Question): URL {
  if (path instanceof URL) return path;
  const url = new URL(`${endpoint.url.href.replace(/\/$/, '')}/${repository}/${path}`);
  if (endpoint.ns) url.searchParams.set('ns', endpoint.ns);
  return url;
}

/** Asks a target of an earlier redirect, as it is; no further redirects. */
export async function askTarget(
  network: RegistryNetwork,
  endpoint: RegistryEndpoint,
  target: URL,
  question: Question,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const request: HttpRequest = { method: 'GET', url: target, headers: { ...question.headers } };
  return send(network, request, endpoint, REGISTRY_ERRORS, question.what, signal);
}

async function walk(
  network: RegistryNetwork,
  endpoint: RegistryEndpoint,
  start: URL,
  question: Question,
  authorization: string | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const { method = 'GET', body, what } = question;
  const own = { ...endpoint.headers, ...question.headers, ...(authorization ? { authorization } : {}) };
  let url = start;
  for (let hop = 0; hop <= MAX_HOPS; hop++) {
    const headers = url.origin === endpoint.url.origin ? { ...own } : { ...question.headers };
    const request: HttpRequest = { method, url, headers, body: body?.() };
    const response = await send(network, request, endpoint, REGISTRY_ERRORS, what, signal);
    if (!isRedirect(response)) return url === start ? { response } : { response, target: url };
    if (method !== 'GET' && method !== 'HEAD') {
      await discard(response);
      throw new NymphError('source', `${url.host} redirects ${what}: content is sent to registries themselves only`);
    }
    const next = await redirectTarget(response, url, what);
    if (next.origin !== endpoint.url.origin) moveTo(next, endpoint.redirected);
    network.log.debug({ from: url.host, to: safeUrl(next) }, 'redirected');
    url = next;
  }
  throw tooManyHops(start.host, what);
}

function moveTo(url: URL, { host, scheme }: NonNullable<RegistryEndpoint['redirected']> = {}): void {
  if (scheme !== undefined) url.protocol = scheme;
  if (host !== undefined) url.host = host;
}

async function guarded<T>(promise: Promise<T>, what: string, place: { url: URL }, signal: AbortSignal): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    if (signal.aborted) throw cancelled(what);
    throw REGISTRY_ERRORS.transport(error, what, place.url.host);
  }
}
