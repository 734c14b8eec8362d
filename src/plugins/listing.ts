import { createHash } from 'node:crypto';
import { NymphError } from '../errors.ts';
import type { ListedFile } from '../image/files.ts';
import { checkLocation, checkRequest, lied } from './check.ts';
import type { DriverRequest, Listing } from './plugin.ts';

/**
 * The listing of a repository, from the steps of a driver, which may be anything. It runs in the driver's thread: what is
 * handed on is a document of bytes, not thousands of objects.
 */
export interface ListingBuilder {
  /** Takes a step. @returns what the driver wants to ask next @throws NymphError `corrupt`; `unsupported` for too many files */
  add(step: unknown): DriverRequest | undefined;
  /** @throws NymphError `not-found` for one without files */
  finish(): Listing;
}

/** What a bootstrap can name. */
const MAX_FILES = 65_534;
const MAX_TEXT = 64 << 20;
const MAX_PATH = 4096;
const MAX_NAME = 255;
/** A petabyte: more is a lie, and sums stay exact. */
const MAX_SIZE = 2 ** 50;
const EXECUTABLE = 0o755;
const DIGESTS: Record<string, { prefix: string; form: RegExp }> = {
  sha256: { prefix: 'sha256', form: /^[0-9a-f]{64}$/ },
  git: { prefix: 'git', form: /^[0-9a-f]{40}$/ },
};

/** @param driver for errors: `the driver of hf://` */
export function createListing(driver: string, scheme: string): ListingBuilder {
  const files = new Map<string, ListedFile>();
  const directories = new Set<string>();
  let revision: string | undefined;
  let text = 0;

  function addFile(value: unknown): void {
    const { path, size, digest, location, executable } = (value ?? {}) as Record<string, unknown>;
    const names = checkPath(driver, path);
    const whole = names.join('/');
    if (files.has(whole)) throw lied(driver, 'the file', path, 'is there twice');
    if (directories.has(whole)) throw lied(driver, 'the file', path, 'is a folder as well');
    for (let i = 1; i < names.length; i++) {
      const parent = names.slice(0, i).join('/');
      if (files.has(parent)) throw lied(driver, 'the file', path, 'lies below a file');
      directories.add(parent);
    }
    const file: ListedFile = {
      path: whole,
      size: checkSize(driver, whole, size),
      ...(executable === true ? { mode: EXECUTABLE } : {}),
      ...(digest == null ? {} : { digest: checkDigest(driver, whole, digest) }),
      location: `${scheme}:${checkLocation(driver, 'a location', location)}`,
    };
    text += whole.length + file.location.length;
    if (files.size === MAX_FILES || text > MAX_TEXT)
      throw new NymphError('unsupported', `${driver} lists more than ${MAX_FILES} files: that cannot be mounted`, {
        hint: 'Mount a folder of it, if the references of this hub can have one.',
      });
    files.set(whole, file);
  }

  return {
    add(step) {
      const { revision: named, files: list, next } = (step ?? {}) as Record<string, unknown>;
      if (named != null) revision ??= checkRevision(driver, named);
      if (!Array.isArray(list)) throw lied(driver, 'its step', undefined, 'has no files');
      for (const file of list) addFile(file);
      return next == null ? undefined : checkRequest(driver, next);
    },
    finish() {
      if (files.size === 0) throw new NymphError('not-found', `${driver} lists no files`);
      const sorted = [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
      const document = { schemaVersion: 1, ...(revision === undefined ? {} : { revision }), files: sorted };
      const bytes = new TextEncoder().encode(JSON.stringify(document));
      return { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
    },
  };
}

function checkPath(driver: string, path: unknown): string[] {
  const refuse = (why: string) => lied(driver, 'the path', path, why);
  if (typeof path !== 'string' || path === '' || !path.isWellFormed()) throw refuse('is none');
  if (path.includes('\0')) throw refuse('has a NUL');
  if (/^(?:\/|[A-Za-z]:[\\/]|\\\\)/.test(path)) throw refuse('is not relative');
  if (Buffer.byteLength(path) > MAX_PATH) throw refuse(`has more than ${MAX_PATH} bytes`);
  const names = path.split('/');
  for (const name of names) {
    if (name === '' || name === '.' || name === '..') throw refuse('leads elsewhere');
    if (Buffer.byteLength(name) > MAX_NAME) throw refuse(`has a name of more than ${MAX_NAME} bytes`);
  }
  return names;
}

function checkSize(driver: string, path: string, size: unknown): number {
  const number = typeof size === 'bigint' ? Number(size) : size;
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0 || number > MAX_SIZE)
    throw lied(driver, `the size of ${JSON.stringify(path.slice(0, 200))}:`, size, 'is none');
  return number;
}

function checkDigest(driver: string, path: string, digest: unknown): string {
  const { tag, val } = digest as { tag?: unknown; val?: unknown };
  const kind = typeof tag === 'string' && Object.hasOwn(DIGESTS, tag) ? DIGESTS[tag] : undefined;
  if (kind === undefined || typeof val !== 'string' || !kind.form.test(val))
    throw lied(driver, `the digest of ${JSON.stringify(path.slice(0, 200))}:`, val, 'is none');
  return `${kind.prefix}:${val}`;
}

function checkRevision(driver: string, revision: unknown): string {
  if (typeof revision !== 'string' || !/^[\x21-\x7e]{1,256}$/.test(revision))
    throw lied(driver, 'the revision', revision, 'is none');
  return revision;
}
