import { NymphError } from '../../errors.ts';
import type { HttpRequest, HttpResponse } from '../http/request.ts';
import { orCancelled } from '../retry.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import { type Candidate, fingerprint } from './credential.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { basicHeader, fetchToken } from './tokens.ts';

/** What is asked for: some registries answer 403, and no challenge, to a token that may only pull. */
export interface Scope {
  repository: string;
  access: 'pull' | 'push';
}

/** Knows what to put into `Authorization`, for each host and scope. */
export interface Authorizer {
  /** The header to send without being asked: of a host that asked before. Renewed before it expires. */
  current(endpoint: RegistryEndpoint, scope: Scope, signal: AbortSignal): Promise<string | undefined>;
  /**
   * The header for a host that answered 401, or 403 to a header. Credentials are looked up again, and each is tried
   * once: they change while images are mounted, and a host may have several.
   * @param challenges its `WWW-Authenticate` values; without any, those that it gave before count
   * @param sent the header that it refused
   * @param refusals what this host has refused while one question was asked; kept by who asks
   * @returns `undefined` if all there is was refused
   * @throws NymphError `denied` if there is nothing that could be sent
   */
  answer(
    endpoint: RegistryEndpoint,
    scope: Scope,
    challenges: readonly string[],
    sent: string | undefined,
    refusals: Refusals,
    signal: AbortSignal,
  ): Promise<string | undefined>;
  /** Forgets a header that was refused although it is new. Returns a hint for people. */
  refused(endpoint: RegistryEndpoint, scope: Scope): string;
}

/** What one question has tried in vain. */
export interface Refusals {
  headers: Set<string>;
  /** Headers that it got for itself, refused or not. */
  obtained: Set<string>;
  /** Fingerprints of credentials. */
  credentials: Set<string>;
}

export interface AuthorizerParts {
  send(endpoint: RegistryEndpoint, request: HttpRequest, signal: AbortSignal): Promise<HttpResponse>;
  /** Best first; `problems` takes what could not be used. */
  findCredentials(host: string, repository: string, problems: string[]): AsyncIterable<Candidate>;
  now?(): number;
}

interface Grant {
  challenge: Challenge;
  header?: string;
  /** The credential behind the header: its fingerprint, and whether it has but one header. */
  credential?: string;
  fixed: boolean;
  /** Unix time, ms: renewed in the background from the first, not sent any more from the second. */
  renewAt: number;
  expiresAt: number;
  /** The one request for a new header that is under way. */
  pending?: Promise<string | undefined>;
  problems: string[];
}

interface Permit {
  header: string;
  credential: string;
  fixed: boolean;
  renewAt: number;
  expiresAt: number;
}

/** For a whole exchange with a token endpoint, helper programs included. */
const TIMEOUT = 45_000;
/** Repositories that are remembered; the oldest is forgotten first. */
const MAX_GRANTS = 2048;
/** Credentials that are tried for one host and repository. */
const MAX_CANDIDATES = 8;
/** In place of a fingerprint. */
const ANONYMOUS = 'anonymous';
const NONE: ReadonlySet<string> = new Set();

export function createAuthorizer(parts: AuthorizerParts): Authorizer {
  const grants = new Map<string, Grant>();
  const now = parts.now ?? performance.now.bind(performance);
  const keyOf = (endpoint: RegistryEndpoint, { repository, access }: Scope) =>
    `${endpoint.url.href} ${repository} ${access}`;

  /** What a credential gives; without one, an anonymous token. */
  const permit = async (
    { challenge }: Grant,
    endpoint: RegistryEndpoint,
    { repository, access }: Scope,
    candidate: Candidate | undefined,
  ): Promise<Permit> => {
    const credential = candidate?.credential;
    const id = credential ? fingerprint(credential) : ANONYMOUS;
    const forEver = { renewAt: Number.POSITIVE_INFINITY, expiresAt: Number.POSITIVE_INFINITY };
    if (challenge.scheme === 'basic' && credential?.kind === 'basic')
      return { header: basicHeader(credential), credential: id, fixed: true, ...forEver };
    if (challenge.scheme === 'basic') throw new NymphError('denied', `${endpoint.url.host} wants a login`);
    if (credential?.kind === 'bearer')
      return { header: `Bearer ${credential.token}`, credential: id, fixed: true, ...forEver };
    const send = (request: HttpRequest, signal: AbortSignal) => parts.send(endpoint, request, signal);
    const scope = scopeOf(challenge, repository, access);
    const asked = now();
    const token = await fetchToken(send, challenge, scope, credential, endpoint.url, AbortSignal.timeout(TIMEOUT));
    return {
      header: `Bearer ${token.token}`,
      credential: id,
      fixed: false,
      renewAt: asked + token.lifetime * 0.75,
      expiresAt: asked + token.lifetime * 0.95,
    };
  };

  /** The first permit that is to be had from a credential that is not among `refused`. */
  const obtain = async (
    grant: Grant,
    endpoint: RegistryEndpoint,
    scope: Scope,
    refused: ReadonlySet<string>,
  ): Promise<Permit | undefined> => {
    grant.problems = [];
    let denial: NymphError | undefined;
    let count = 0;
    for await (const candidate of parts.findCredentials(endpoint.url.host, scope.repository, grant.problems)) {
      if (++count > MAX_CANDIDATES) break;
      if (refused.has(fingerprint(candidate.credential))) {
        grant.problems.push(`${candidate.from} was refused`);
        continue;
      }
      try {
        return await permit(grant, endpoint, scope, candidate);
      } catch (error) {
        if (!(error instanceof NymphError) || error.code !== 'denied') throw error;
        denial = error;
        grant.problems.push(`${candidate.from} was refused`);
      }
    }
    if (count === 0 && !refused.has(ANONYMOUS)) return permit(grant, endpoint, scope, undefined);
    if (denial) throw denial;
    return undefined;
  };

  const renew = (
    grant: Grant,
    endpoint: RegistryEndpoint,
    scope: Scope,
    refused: ReadonlySet<string>,
  ): Promise<string | undefined> => {
    grant.pending ??= obtain(grant, endpoint, scope, refused)
      .then((permit) => {
        if (permit) Object.assign(grant, permit);
        return permit?.header;
      })
      .catch((error: unknown) => {
        if (error instanceof NymphError && error.code === 'denied')
          throw new NymphError('denied', error.message, {
            hint: grant.problems.length === 0 && error.hint ? error.hint : loginHint(endpoint, grant),
            cause: error,
          });
        throw error;
      })
      .finally(() => {
        grant.pending = undefined;
      });
    return grant.pending;
  };

  return {
    async current(endpoint, scope, signal) {
      const grant = grants.get(keyOf(endpoint, scope));
      if (!grant) return undefined;
      const time = now();
      const what = `waiting for an access token for ${endpoint.url.host}`;
      if (grant.header === undefined || time >= grant.expiresAt)
        return orCancelled(renew(grant, endpoint, scope, NONE), signal, what);
      if (time >= grant.renewAt) {
        // The old one is good for a while: a failure here is met again, by a request that needs the new one.
        renew(grant, endpoint, scope, NONE).catch(() => {
          grant.renewAt = now() + (grant.expiresAt - now()) / 2;
        });
      }
      return grant.header;
    },

    async answer(endpoint, scope, challenges, sent, refusals, signal) {
      const key = keyOf(endpoint, scope);
      let grant = grants.get(key);
      const challenge = chooseChallenge(parseChallenges(challenges)) ?? grant?.challenge;
      if (!challenge)
        throw new NymphError('denied', `${endpoint.url.host} wants a login of a kind that nymph does not speak`, {
          hint: 'nymph speaks Basic and Bearer.',
        });
      if (!grant) {
        if (grants.size >= MAX_GRANTS) grants.delete(grants.keys().next().value!);
        grant = { challenge, fixed: false, renewAt: 0, expiresAt: 0, problems: [] };
        grants.set(key, grant);
      }
      if (!grant.pending) grant.challenge = challenge;
      if (sent !== undefined) {
        // An older token may be refused although its credential is good: it was revoked. A new one may not.
        const fresh = grant.fixed || refusals.obtained.has(sent);
        if (grant.header === sent && grant.credential && fresh) refusals.credentials.add(grant.credential);
        refusals.headers.add(sent);
      }
      // Another request has renewed the header since this one was sent.
      if (grant.header !== undefined && !refusals.headers.has(grant.header) && now() < grant.expiresAt)
        return grant.header;
      const what = `logging in to ${endpoint.url.host}`;
      const header = await orCancelled(renew(grant, endpoint, scope, refusals.credentials), signal, what);
      if (header !== undefined) refusals.obtained.add(header);
      return header;
    },

    refused(endpoint, scope) {
      const grant = grants.get(keyOf(endpoint, scope));
      grants.delete(keyOf(endpoint, scope));
      return loginHint(endpoint, grant);
    },
  };
}

/**
 * What a token must allow: as the challenge says. To push, more than that: the challenge may be that of a question that
 * only reads, and the token serves all questions of the push.
 */
function scopeOf(challenge: Challenge, repository: string, access: Scope['access']): string {
  const asked = challenge.parameters.scope;
  if (access === 'pull') return asked || `repository:${repository}:pull`;
  const others = (asked ?? '')
    .split(' ')
    .filter((part) => part !== '' && !part.startsWith(`repository:${repository}:`));
  return [`repository:${repository}:pull,push`, ...others].join(' ');
}

function chooseChallenge(challenges: Challenge[]): Challenge | undefined {
  return (
    challenges.find((entry) => entry.scheme === 'bearer' && entry.parameters.realm !== undefined) ??
    challenges.find((entry) => entry.scheme === 'basic')
  );
}

function loginHint(endpoint: RegistryEndpoint, grant: Grant | undefined): string {
  const login = `Log in to ${endpoint.url.host} (\`docker login\` or \`skopeo login\`) as the user that the daemon runs as, or renew the pull secret.`;
  return grant && grant.problems.length > 0 ? `${grant.problems.join('; ')}. ${login}` : login;
}
