import { createHash } from 'node:crypto';

export type Credential =
  | { kind: 'basic'; username: string; password: string }
  /** Exchanged for an access token at the token endpoint (OAuth2 refresh token). */
  | { kind: 'identity'; token: string }
  /** Sent as it is. */
  | { kind: 'bearer'; token: string };

export interface Candidate {
  credential: Credential;
  /** Who gave it, for people: a file, a helper. */
  from: string;
}

/** Equal for equal credentials, and says nothing about them. */
export function fingerprint(credential: Credential): string {
  return createHash('sha256')
    .update(JSON.stringify(Object.entries(credential).sort()))
    .digest('hex');
}

const DOCKER_HUB_NAMES = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];

/** The names under which credentials of a host may be kept: Docker Hub has three. */
export function hubNames(host: string): string[] {
  return DOCKER_HUB_NAMES.includes(host) ? DOCKER_HUB_NAMES : [host];
}

/** The credential of one entry of `auths`, as Docker, containers' tools and Kubernetes write it. */
export function fromEntry(entry: Record<string, unknown>): Credential | undefined {
  const text = (key: string) =>
    typeof entry[key] === 'string' && entry[key] !== '' ? (entry[key] as string) : undefined;
  const registryToken = text('registrytoken');
  if (registryToken) return { kind: 'bearer', token: registryToken };
  const identityToken = text('identitytoken');
  if (identityToken) return { kind: 'identity', token: identityToken };
  const decoded = Buffer.from(text('auth') ?? '', 'base64')
    .toString('utf8')
    .replace(/\0+$/, '');
  const colon = decoded.indexOf(':');
  if (colon > 0) return { kind: 'basic', username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
  const username = text('username');
  const password = text('password');
  return username && password ? { kind: 'basic', username, password } : undefined;
}

/** Keys are written as `host`, `host/path` or `https://host/v1/`. */
export function normaliseKey(key: string): string {
  const bare = key.replace(/^https?:\/\//, '');
  return bare === key ? key.replace(/\/+$/, '') : bare.replace(/\/(v1|v2)?\/*$/, '');
}
