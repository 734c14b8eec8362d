import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isObject } from '../descriptor.ts';
import { type Candidate, type Credential, fingerprint, hubNames } from './credential.ts';

/** Credentials that came with pulls, by host and repository: for the repository that they came with, and no other. */
export interface CapturedCredentials {
  /** To be used at once: the pull that brings it needs it. It is kept when the pull has succeeded. */
  capture(host: string, repository: string, credential: Credential): Capture;
  /** The newest first. @param problems takes why the file cannot be used */
  find(host: string, repository: string, problems: string[]): Promise<Candidate[]>;
  /** Resolves when what was kept is on disk. */
  flushed(): Promise<void>;
}

export interface Capture {
  keep(): void;
  /** Takes it back, unless another pull has kept it or still needs it. */
  drop(): void;
}

interface Entry {
  credential: Credential;
  kept: boolean;
  /** Pulls that go on with it. */
  pulls: number;
}

/** For each repository: pods of several owners may pull one image. */
const MOST_EACH = 4;
/** Those of pulls that go on: they displace none that was good. */
const MOST_PASSING = 32;
/** The repository that was pulled longest ago is forgotten first. */
const MOST_REPOSITORIES = 4096;
const MAX_FILE = 64 * 1024 * 1024;

/**
 * @param file where they outlive this process, readable by its user only; without one they are in memory only
 * @param failed is told that the file cannot be written
 */
export function createCaptured(file: string | undefined, failed: (error: Error) => void): CapturedCredentials {
  const book = new Map<string, Entry[]>();
  const problems: string[] = [];
  let loading: Promise<void> | undefined;
  let writing: Promise<void> = Promise.resolve();
  let dirty = false;

  const load = async (path: string) => {
    for (const [key, credential] of await readBook(path, problems)) {
      const entries = book.get(key) ?? [];
      const known = entries.find((entry) => fingerprint(entry.credential) === fingerprint(credential));
      if (known) known.kept = true;
      // What came since this process began is newer.
      else if (entries.length < MOST_EACH) book.set(key, [...entries, { credential, kept: true, pulls: 0 }]);
    }
  };
  const loaded = () => {
    if (file !== undefined) loading ??= load(file);
    return loading ?? Promise.resolve();
  };

  const save = (path: string) => {
    if (dirty) return;
    dirty = true;
    writing = writing
      .then(loaded)
      .then(() => {
        dirty = false;
        return writeBook(path, book);
      })
      .catch(failed);
  };

  /** Puts an entry in front of the others of its repository. */
  const put = (key: string, entry: Entry) => {
    const others = (book.get(key) ?? []).filter((known) => known !== entry);
    // Deleted first: a map keeps the order in which keys came.
    book.delete(key);
    book.set(key, trimmed([entry, ...others]));
    if (book.size > MOST_REPOSITORIES) book.delete(book.keys().next().value!);
  };

  return {
    capture(host, repository, credential) {
      const key = keyOf(host, repository);
      const id = fingerprint(credential);
      const entries = book.get(key) ?? [];
      const entry = entries.find((known) => fingerprint(known.credential) === id) ?? {
        credential,
        kept: false,
        pulls: 0,
      };
      entry.pulls++;
      put(key, entry);
      return {
        keep() {
          entry.pulls--;
          entry.kept = true;
          put(key, entry);
          if (file !== undefined) save(file);
        },
        drop() {
          entry.pulls--;
          if (entry.kept || entry.pulls > 0) return;
          const left = (book.get(key) ?? []).filter((known) => known !== entry);
          if (left.length > 0) book.set(key, left);
          else book.delete(key);
        },
      };
    },
    async find(host, repository, found) {
      await loaded();
      found.push(...problems);
      const entries = book.get(keyOf(host, repository)) ?? [];
      return entries.map(({ credential }) => ({ credential, from: 'the login of its last pull' }));
    },
    async flushed() {
      await writing;
    },
  };
}

function trimmed(entries: readonly Entry[]): Entry[] {
  let kept = 0;
  let passing = 0;
  return entries.filter((entry) => (entry.kept ? ++kept <= MOST_EACH : ++passing <= MOST_PASSING));
}

function keyOf(host: string, repository: string): string {
  return `${hubNames(host)[0]}/${repository}`;
}

/** Oldest first, as {@link writeBook} wrote it. */
async function readBook(file: string, problems: string[]): Promise<[string, Credential][]> {
  try {
    const handle = await open(file);
    try {
      if ((await handle.stat()).size > MAX_FILE) throw Object.assign(new Error(), { code: 'it is too large' });
      const value: unknown = JSON.parse(await handle.readFile('utf8'));
      if (isObject(value) && Array.isArray(value.credentials)) return value.credentials.filter(isRow);
      problems.push(`${file} has no credentials that can be read`);
    } finally {
      await handle.close();
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') problems.push(`${file} cannot be read (${code ?? 'it is not JSON'})`);
  }
  return [];
}

function isRow(row: unknown): row is [string, Credential] {
  if (!Array.isArray(row) || typeof row[0] !== 'string' || !isObject(row[1])) return false;
  const { kind, username, password, token } = row[1];
  if (kind === 'basic') return typeof username === 'string' && typeof password === 'string';
  return (kind === 'identity' || kind === 'bearer') && typeof token === 'string';
}

/** Whole or not at all: written beside it, synced, renamed. */
async function writeBook(file: string, book: ReadonlyMap<string, readonly Entry[]>): Promise<void> {
  const rows = [...book].flatMap(([key, entries]) =>
    entries.filter((entry) => entry.kept).map((entry) => [key, entry.credential]),
  );
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.new`;
  await rm(temporary, { force: true });
  const handle = await open(temporary, 'wx', 0o600);
  try {
    await handle.writeFile(JSON.stringify({ credentials: rows }));
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}
