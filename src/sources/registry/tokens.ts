import { NymphError } from '../../errors.ts';
import { type HttpRequest, type HttpResponse, readUpTo } from '../http/request.ts';
import type { Challenge } from './challenge.ts';
import type { Credential } from './credential.ts';
import { REGISTRY_ERRORS } from './errors.ts';

/** An access token as the token endpoint gave it. Milliseconds of life from now. */
export interface AccessToken {
  token: string;
  lifetime: number;
}

export type Send = (request: HttpRequest, signal: AbortSignal) => Promise<HttpResponse>;

const LIMIT = 1024 * 1024;
/** distribution "Token Authentication": without `expires_in` a token lives 60 s. */
const DEFAULT_LIFETIME = 60_000;
const LONGEST_LIFETIME = 24 * 3_600_000;
const CLIENT = 'nymph';

/**
 * Asks a token endpoint for an access token (distribution "Token Authentication" and "OAuth2 Token Authentication"):
 * GET, with Basic credentials or without any; POST for identity tokens.
 * @param scope `repository:<name>:pull`; @param registry address of the API that the token is for
 * @throws NymphError `denied`, `source`, `timeout`
 */
export async function fetchToken(
  send: Send,
  challenge: Challenge,
  scope: string,
  credential: Credential | undefined,
  registry: URL,
  signal: AbortSignal,
): Promise<AccessToken> {
  const realm = realmOf(challenge, registry);
  if (credential && registry.protocol === 'https:' && realm.protocol === 'http:')
    throw new NymphError('denied', `${registry.host} wants its credentials to be sent to ${realm.host} without TLS`, {
      hint: 'This is refused: tell the operator of the registry.',
    });
  const what = `an access token for ${registry.host}`;
  let response: HttpResponse;
  try {
    response = await send(tokenRequest(realm, challenge.parameters.service, scope, credential), signal);
    if (response.status !== 200) throw await REGISTRY_ERRORS.status(response, what, realm.host);
    return parseToken(await readUpTo(response, LIMIT), realm.host);
  } catch (error) {
    throw REGISTRY_ERRORS.transport(error, what, realm.host);
  }
}

function realmOf(challenge: Challenge, registry: URL): URL {
  const realm = URL.canParse(challenge.parameters.realm ?? '') ? new URL(challenge.parameters.realm) : undefined;
  if (realm?.protocol === 'https:' || realm?.protocol === 'http:') return realm;
  throw new NymphError('source', `${registry.host} wants a token but does not say from where (realm)`);
}

function tokenRequest(
  realm: URL,
  service: string | undefined,
  scope: string,
  credential: Credential | undefined,
): HttpRequest {
  const headers: Record<string, string> = { accept: 'application/json', 'accept-encoding': 'identity' };
  if (credential?.kind === 'identity') {
    const form = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: credential.token });
    if (service) form.set('service', service);
    form.set('scope', scope);
    form.set('client_id', CLIENT);
    headers['content-type'] = 'application/x-www-form-urlencoded';
    return { method: 'POST', url: realm, headers, body: form.toString() };
  }
  const url = new URL(realm);
  if (service) url.searchParams.set('service', service);
  for (const part of scope.split(' ').filter((text) => text !== '')) url.searchParams.append('scope', part);
  if (credential?.kind === 'basic') headers.authorization = basicHeader(credential);
  return { method: 'GET', url, headers };
}

export function basicHeader(credential: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`;
}

function parseToken(body: Uint8Array, host: string): AccessToken {
  let value: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null = null;
  try {
    value = JSON.parse(Buffer.from(body).toString('utf8'));
  } catch {
    // Told below; the text of the parser's error may quote a token.
  }
  const token = value?.token || value?.access_token;
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
    throw new NymphError('source', `${host} answered without an access token`, { retryable: true });
  const seconds = value?.expires_in;
  const lifetime = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : DEFAULT_LIFETIME;
  return { token, lifetime: Math.min(lifetime, LONGEST_LIFETIME) };
}
