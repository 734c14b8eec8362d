import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { isScheme } from '../plugins/scheme.ts';
import { isDigest } from './digest.ts';

/** An image in a registry. `host` is as people write it (`docker.io`), not where its API is: see {@link apiHost}. */
export interface RegistryReference {
  readonly kind: 'registry';
  /** `host` or `host:port`; IPv6 in brackets. */
  readonly host: string;
  /** `library/app` */
  readonly repository: string;
  readonly tag?: string;
  /** Wins over the tag. */
  readonly digest?: OciDigest;
}

/** An image in an OCI image layout. */
export interface LayoutReference {
  readonly kind: 'layout';
  /** Absolute. */
  readonly path: string;
  /** Value of `org.opencontainers.image.ref.name`. */
  readonly tag?: string;
  readonly digest?: OciDigest;
}

/** A folder as `nydus-image create` writes it: `bootstrap` and `blobs/<id>`. */
export interface FolderReference {
  readonly kind: 'folder';
  /** Absolute. */
  readonly path: string;
}

/** An image whose blobs are where a configuration of nydusd says. */
export interface NydusdReference {
  readonly kind: 'nydusd';
  /** The configuration's file, absolute. */
  readonly config: string;
  /** Where its bootstrap is: an absolute path, or an image. */
  readonly image: { readonly kind: 'bootstrap'; readonly path: string } | RegistryReference | LayoutReference;
}

/** A repository of a hub of models: `hf://Qwen/Qwen2.5-0.5B@main`. What its name means is known to the hub's driver. */
export interface HubReference {
  readonly kind: 'hub';
  /** `hf` */
  readonly scheme: string;
  /** What stands behind `scheme://`. */
  readonly name: string;
}

export type Reference = RegistryReference | LayoutReference | FolderReference | NydusdReference | HubReference;

const FORMS =
  'Write `host/name:tag`, `host/name@sha256:…`, `oci:PATH[:TAG]`, `rafs:PATH`, `nydusd:CONFIG:BOOTSTRAP` or `hf://OWNER/NAME`.';
/** distribution-spec "Pulling manifests": name and tag. */
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$/;
/** distribution-spec: most implementations limit host and name together to 255 characters. */
const MAX_LENGTH = 255;
/** Longest path of Linux, with room for a tag and a digest. */
const MAX_TEXT = 8192;
const DOCKER_HUB = 'docker.io';

/**
 * Reads a reference as people write it. Short names mean Docker Hub as with `docker pull`: `app` is
 * `docker.io/library/app:latest`. Relative paths are taken from `directory`.
 * @throws NymphError `usage`, with a hint
 */
export function parseReference(text: string, directory: string = process.cwd()): Reference {
  if (text.length > MAX_TEXT || text.includes('\0')) throw wrong(text, 'it is too long or has a NUL');
  if (text.startsWith('oci:')) return parseLayout(text, directory);
  if (text.startsWith('rafs:')) return { kind: 'folder', path: parsePath(text, text.slice('rafs:'.length), directory) };
  if (text.startsWith('nydusd:')) return parseNydusd(text, directory);
  const hub = /^([^:/]+):\/\/(.*)$/s.exec(text);
  if (hub !== null && isScheme(hub[1])) return parseHub(text, hub[1], hub[2]);
  return parseRegistry(text);
}

/** The canonical text: `parseReference` gives an equal reference for it, in any directory. */
export function formatReference(reference: Reference): string {
  if (reference.kind === 'folder') return `rafs:${reference.path}`;
  if (reference.kind === 'hub') return `${reference.scheme}://${reference.name}`;
  if (reference.kind === 'nydusd') {
    const { config, image } = reference;
    const escaped = config.replace(/[%:]/g, (char) => (char === '%' ? '%25' : '%3A'));
    return `nydusd:${escaped}:${image.kind === 'bootstrap' ? image.path : formatReference(image)}`;
  }
  const start = reference.kind === 'layout' ? `oci:${reference.path}` : `${reference.host}/${reference.repository}`;
  return start + (reference.tag ? `:${reference.tag}` : '') + (reference.digest ? `@${reference.digest}` : '');
}

/** What a reference names but for the tag and digest: registry and repository, a layout, a folder; of a hub, all of it. */
export function placeOf(reference: Reference): string {
  if (reference.kind === 'hub') return `${reference.scheme}://`;
  if (reference.kind !== 'registry' && reference.kind !== 'layout') return formatReference(reference);
  const { tag: _tag, digest: _digest, ...place } = reference;
  return formatReference(place);
}

/** The digest that a reference fixes its image to, if it does. */
export function pinnedDigest(reference: Reference): OciDigest | undefined {
  if (reference.kind === 'nydusd')
    return reference.image.kind === 'bootstrap' ? undefined : pinnedDigest(reference.image);
  return reference.kind === 'folder' || reference.kind === 'hub' ? undefined : reference.digest;
}

/** Where the API of a registry is: Docker Hub's is not at `docker.io`. */
export function apiHost(host: string): string {
  return host === DOCKER_HUB ? 'registry-1.docker.io' : host;
}

function parseHub(text: string, scheme: string, name: string): HubReference {
  if (name === '' || /[\0-\x20\x7f]/.test(name)) throw wrong(text, 'the name is empty, or has spaces');
  return { kind: 'hub', scheme, name };
}

function parseLayout(text: string, directory: string): LayoutReference {
  const [rest, digest] = splitDigest(text, text.slice('oci:'.length));
  const colon = rest.indexOf(':');
  const path = parsePath(text, colon < 0 ? rest : rest.slice(0, colon), directory);
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (tag === '') throw wrong(text, 'the tag behind `:` is empty');
  return { kind: 'layout', path, ...(tag ? { tag } : {}), ...(digest ? { digest } : {}) };
}

/** `nydusd:CONFIG:IMAGE`: `%3A` and `%25` are `:` and `%` in CONFIG; an IMAGE that begins like a path is a bootstrap. */
function parseNydusd(text: string, directory: string): NydusdReference {
  const rest = text.slice('nydusd:'.length);
  const colon = rest.indexOf(':');
  if (colon < 0) throw wrong(text, 'it has no bootstrap', 'Write `nydusd:CONFIG:BOOTSTRAP`.');
  const unescaped = rest.slice(0, colon).replace(/%(3A|25)/gi, (_, code) => (code === '25' ? '%' : ':'));
  const config = parsePath(text, unescaped, directory);
  const name = rest.slice(colon + 1);
  if (name === '' || /^[./]/.test(name))
    return { kind: 'nydusd', config, image: { kind: 'bootstrap', path: parsePath(text, name, directory) } };
  const image = parseReference(name, directory);
  if (image.kind === 'registry' || image.kind === 'layout') return { kind: 'nydusd', config, image };
  throw wrong(text, `behind the configuration stands ${name.slice(0, name.indexOf(':'))}:`, FORMS);
}

function parsePath(text: string, path: string, directory: string): string {
  if (path === '') throw wrong(text, 'the path is empty');
  return resolve(directory, path);
}

function parseRegistry(text: string): RegistryReference {
  if (/[\0-\x20\x7f]/.test(text)) throw wrong(text, 'it has spaces or control characters');
  if (/^[a-z0-9+.-]+:\/\//i.test(text))
    throw wrong(text, 'it starts with a scheme', `Leave out \`${text.slice(0, text.indexOf('/') + 2)}\`.`);
  if (/^[./~]/.test(text))
    throw wrong(text, 'it looks like a path', 'For a local image write `oci:PATH[:TAG]` or `rafs:PATH`.');
  const [rest, digest] = splitDigest(text, text);
  const slash = rest.indexOf('/');
  const first = slash < 0 ? '' : rest.slice(0, slash);
  const named = isHost(first);
  const host = named ? parseHost(text, first) : DOCKER_HUB;
  const name = named ? rest.slice(slash + 1) : rest;
  const colon = name.lastIndexOf(':');
  const tag = colon < 0 ? undefined : name.slice(colon + 1);
  let repository = colon < 0 ? name : name.slice(0, colon);
  if (tag !== undefined && !TAG.test(tag)) throw wrong(text, `\`${tag}\` is not a tag`);
  if (repository === '') throw wrong(text, 'the name is empty');
  if (!named && digest === undefined && /^[0-9a-f]{64}$/.test(repository))
    throw wrong(text, 'it is a digest without a name', `Write \`host/name@sha256:${repository}\`.`);
  checkName(text, repository);
  if (host === DOCKER_HUB && !repository.includes('/')) repository = `library/${repository}`;
  if (host.length + repository.length + 1 > MAX_LENGTH)
    throw wrong(text, `host and name have more than ${MAX_LENGTH} characters`);
  const effectiveTag = tag ?? (digest ? undefined : 'latest');
  return {
    kind: 'registry',
    host,
    repository,
    ...(effectiveTag ? { tag: effectiveTag } : {}),
    ...(digest ? { digest } : {}),
  };
}

function checkName(text: string, repository: string): void {
  for (const component of repository.split('/')) {
    if (COMPONENT.test(component)) continue;
    const upper = component !== component.toLowerCase();
    throw wrong(
      text,
      component === '' ? 'the name has an empty part' : `\`${component}\` cannot be part of a name`,
      upper ? 'Names are written in lower case.' : 'Parts have a–z, 0–9, and `.`, `_`, `__` or `-` between them.',
    );
  }
}

/** Whether what stands before the first slash is a host, and not the first part of a name at Docker Hub. */
function isHost(first: string): boolean {
  return /[.:A-Z[]/.test(first) || first === 'localhost';
}

function parseHost(text: string, host: string): string {
  const match = /^(\[[^\]]*\]|[^:[\]]*)(?::(\d{1,5}))?$/.exec(host);
  const name = match?.[1] ?? '';
  const valid = name.startsWith('[') ? isIP(name.slice(1, -1)) === 6 : HOST.test(name);
  const port = match?.[2] === undefined ? 1 : Number(match[2]);
  // A last part that is a number makes the whole an address of IPv4, which may be none: `registry.5`.
  if (!match || !valid || port < 1 || port > 65535 || !URL.canParse(`https://${host}/`))
    throw wrong(text, `\`${host}\` is not a host or host:port`);
  const lower = host.toLowerCase();
  // Where capital letters alone tell that it is a host, they must stay.
  if (!isHost(lower)) return host;
  return lower === 'index.docker.io' || lower === 'registry-1.docker.io' ? DOCKER_HUB : lower;
}

function splitDigest(text: string, rest: string): [string, OciDigest | undefined] {
  const match = /@([A-Za-z0-9+._-]+:[^/@]*)$/.exec(rest);
  if (!match) {
    if (rest.endsWith('@')) throw wrong(text, 'the digest behind `@` is empty');
    return [rest, undefined];
  }
  if (!isDigest(match[1]))
    throw wrong(
      text,
      `\`${match[1]}\` is not a digest that nymph knows`,
      'A digest is `sha256:` and 64 digits 0–9, a–f.',
    );
  return [rest.slice(0, match.index), match[1]];
}

function wrong(text: string, why: string, hint: string = FORMS): NymphError {
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return new NymphError('usage', `wrong reference ${JSON.stringify(shown)}: ${why}`, { hint });
}
