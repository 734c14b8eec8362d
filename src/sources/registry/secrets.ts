import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isObject } from '../descriptor.ts';
import { type Candidate, fromEntry, hubNames, normaliseKey } from './credential.ts';

/** The keys of pull secrets: `kubernetes.io/dockerconfigjson`, and `kubernetes.io/dockercfg` before it. */
const NAMES = ['.dockerconfigjson', '.dockercfg'];
/** Kubernetes stores no larger secret. */
const MAX_FILE = 1024 * 1024;

interface Match extends Candidate {
  /** Bytes of path in the key: the longer, the more exact. */
  depth: number;
}

/**
 * The credentials of a registry in mounted Kubernetes secrets, as the kubelet chooses them: every entry that matches,
 * those with the longest path first. Read anew each time: Kubernetes replaces the files when a secret is renewed.
 *
 * Source of the format: Kubernetes, "Images", "Interpretation of config.json".
 * @param directories each a mounted secret, or a directory of such
 * @param problems takes files that could not be used
 */
export async function* secretCredentials(
  directories: readonly string[],
  host: string,
  repository: string,
  problems: string[],
): AsyncGenerator<Candidate> {
  const matches: Match[] = [];
  for (const directory of directories) {
    for (const file of await secretFiles(directory, problems)) {
      const entries = await readEntries(file, problems);
      for (const [key, entry] of Object.entries(entries)) {
        const depth = keyMatches(key, hubNames(host), repository);
        if (depth === undefined || !isObject(entry)) continue;
        const credential = fromEntry(entry);
        if (credential) matches.push({ credential, from: `the secret ${file}`, depth });
        else problems.push(`an entry of ${file} has no credential that can be read`);
      }
    }
  }
  yield* matches.sort((a, b) => b.depth - a.depth);
}

async function secretFiles(directory: string, problems: string[]): Promise<string[]> {
  let names: string[];
  try {
    names = (await readdir(directory)).sort();
  } catch (error) {
    problems.push(`${directory} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'failed'})`);
    return [];
  }
  // `..data` and `..2026_01_02…` are how Kubernetes swaps all files of a volume at once.
  const directories = [
    directory,
    ...names.filter((name) => !name.startsWith('.')).map((name) => join(directory, name)),
  ];
  return directories.flatMap((path) => NAMES.map((name) => join(path, name)));
}

async function readEntries(file: string, problems: string[]): Promise<Record<string, unknown>> {
  try {
    if ((await stat(file)).size > MAX_FILE) throw Object.assign(new Error(), { code: 'it is too large' });
    const value: unknown = JSON.parse(await readFile(file, 'utf8'));
    const entries = file.endsWith('.dockercfg') ? value : isObject(value) ? value.auths : undefined;
    if (isObject(entries)) return entries;
    problems.push(`${file} is not a pull secret`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') problems.push(`${file} cannot be read (${code ?? 'it is not JSON'})`);
  }
  return {};
}

/**
 * Whether a key of `auths` is meant for a repository: `host`, `host:port/path`, with `*` and `?` in the parts of the
 * host's name. A path matches what begins with it.
 * @returns length of its path, or `undefined`
 */
function keyMatches(key: string, names: readonly string[], repository: string): number | undefined {
  const [keyHost, ...rest] = normaliseKey(key).split('/');
  const path = rest.join('/');
  if (path !== '' && repository !== path && !repository.startsWith(`${path}/`)) return undefined;
  return names.some((name) => hostMatches(keyHost, name)) ? path.length : undefined;
}

function hostMatches(pattern: string, host: string): boolean {
  const patternParts = pattern.toLowerCase().split('.');
  const parts = host.toLowerCase().split('.');
  return parts.length === patternParts.length && parts.every((part, i) => globMatches(patternParts[i], part));
}

/** `*` stands for any text, `?` for one character. Goes back to the last `*` only: no pattern takes long. */
function globMatches(pattern: string, text: string): boolean {
  let [p, t, star, mark] = [0, 0, -1, 0];
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++mark;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}
