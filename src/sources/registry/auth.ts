import { NymphError } from '../../errors.ts';
import type { HttpRequest, HttpResponse } from '../http/request.ts';
import { orCancelled } from '../retry.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { CredentialLookup } from './credentials.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { basicHeader, fetchToken } from './tokens.ts';

/** Knows what to put into `Authorization`, for each host and repository. */
export interface Authorizer {
  /** The header to send without being asked: of a host that asked before. Renewed before it expires. */
  current(endpoint: RegistryEndpoint, repository: string, signal: AbortSignal): Promise<string | undefined>;
  /**
   * The header for a host that answered 401.
   * @param challenges its `WWW-Authenticate` values; @param sent the header that it refused
   * @throws NymphError `denied` if there is nothing that could be sent
   */
  answer(
    endpoint: RegistryEndpoint,
    repository: string,
    challenges: readonly string[],
    sent: string | undefined,
    signal: AbortSignal,
  ): Promise<string>;
  /** Forgets a header that was refused although it is new. Returns a hint for people. */
  refused(endpoint: RegistryEndpoint, repository: string): string;
}

export interface AuthorizerParts {
  send(endpoint: RegistryEndpoint, request: HttpRequest, signal: AbortSignal): Promise<HttpResponse>;
  findCredential(host: string, repository: string): Promise<CredentialLookup>;
  now?(): number;
}

interface Grant {
  challenge: Challenge;
  header?: string;
  /** Unix time, ms: renewed in the background from the first, not sent any more from the second. */
  renewAt: number;
  expiresAt: number;
  /** The one request for a new header that is under way. */
  pending?: Promise<string>;
  problems: string[];
}

/** For a whole exchange with a token endpoint, helper programs included. */
const TIMEOUT = 45_000;
/** Repositories that are remembered; the oldest is forgotten first. */
const MAX_GRANTS = 2048;

export function createAuthorizer(parts: AuthorizerParts): Authorizer {
  const grants = new Map<string, Grant>();
  const now = parts.now ?? Date.now;
  const keyOf = (endpoint: RegistryEndpoint, repository: string) => `${endpoint.url.href} ${repository}`;

  const obtain = async (grant: Grant, endpoint: RegistryEndpoint, repository: string): Promise<string> => {
    const lookup = await parts.findCredential(endpoint.url.host, repository);
    grant.problems = lookup.problems;
    const { credential } = lookup;
    const { scheme, parameters } = grant.challenge;
    grant.expiresAt = Number.POSITIVE_INFINITY;
    grant.renewAt = Number.POSITIVE_INFINITY;
    if (scheme === 'basic') {
      if (credential?.kind === 'basic') return basicHeader(credential);
      throw new NymphError('denied', `${endpoint.url.host} wants a login`, { hint: loginHint(endpoint, grant) });
    }
    if (credential?.kind === 'bearer') return `Bearer ${credential.token}`;
    const send = (request: HttpRequest, signal: AbortSignal) => parts.send(endpoint, request, signal);
    const scope = parameters.scope || `repository:${repository}:pull`;
    const asked = now();
    const token = await fetchToken(
      send,
      grant.challenge,
      scope,
      credential,
      endpoint.url,
      AbortSignal.timeout(TIMEOUT),
    );
    grant.expiresAt = asked + token.lifetime * 0.95;
    grant.renewAt = asked + token.lifetime * 0.75;
    return `Bearer ${token.token}`;
  };

  const renew = (grant: Grant, endpoint: RegistryEndpoint, repository: string): Promise<string> => {
    grant.pending ??= obtain(grant, endpoint, repository)
      .then((header) => {
        grant.header = header;
        return header;
      })
      .catch((error: unknown) => {
        if (error instanceof NymphError && error.code === 'denied' && grant.problems.length > 0)
          throw new NymphError('denied', error.message, { hint: loginHint(endpoint, grant), cause: error });
        throw error;
      })
      .finally(() => {
        grant.pending = undefined;
      });
    return grant.pending;
  };

  return {
    async current(endpoint, repository, signal) {
      const grant = grants.get(keyOf(endpoint, repository));
      if (!grant) return undefined;
      const time = now();
      const what = `waiting for an access token for ${endpoint.url.host}`;
      if (grant.header === undefined || time >= grant.expiresAt)
        return orCancelled(renew(grant, endpoint, repository), signal, what);
      if (time >= grant.renewAt) {
        // The old one is good for a while: a failure here is met again, by a request that needs the new one.
        renew(grant, endpoint, repository).catch(() => {
          grant.renewAt = now() + (grant.expiresAt - now()) / 2;
        });
      }
      return grant.header;
    },

    async answer(endpoint, repository, challenges, sent, signal) {
      const challenge = chooseChallenge(parseChallenges(challenges));
      if (!challenge)
        throw new NymphError('denied', `${endpoint.url.host} wants a login of a kind that nymph does not speak`, {
          hint: 'nymph speaks Basic and Bearer.',
        });
      const key = keyOf(endpoint, repository);
      let grant = grants.get(key);
      // Another request has renewed the header since this one was sent.
      if (grant?.header !== undefined && grant.header !== sent && now() < grant.expiresAt) return grant.header;
      if (!grant) {
        if (grants.size >= MAX_GRANTS) grants.delete(grants.keys().next().value!);
        grant = { challenge, renewAt: 0, expiresAt: 0, problems: [] };
        grants.set(key, grant);
      }
      if (!grant.pending) grant.challenge = challenge;
      return orCancelled(renew(grant, endpoint, repository), signal, `logging in to ${endpoint.url.host}`);
    },

    refused(endpoint, repository) {
      const grant = grants.get(keyOf(endpoint, repository));
      grants.delete(keyOf(endpoint, repository));
      return loginHint(endpoint, grant);
    },
  };
}

function chooseChallenge(challenges: Challenge[]): Challenge | undefined {
  return (
    challenges.find((entry) => entry.scheme === 'bearer' && entry.parameters.realm !== undefined) ??
    challenges.find((entry) => entry.scheme === 'basic')
  );
}

function loginHint(endpoint: RegistryEndpoint, grant: Grant | undefined): string {
  const login = `Log in to ${endpoint.url.host} (\`docker login\` or \`skopeo login\`) as the user that the daemon runs as.`;
  return grant && grant.problems.length > 0 ? `${grant.problems.join('; ')}. ${login}` : login;
}
