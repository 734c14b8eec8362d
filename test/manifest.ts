/**
 * Compares a mounted tree with a manifest, inode by inode and byte by byte.
 *
 *   node test/manifest.ts DIR                       prints the manifest of DIR
 *   node test/manifest.ts DIR MANIFEST [--how order|random|mmap|parallel|none] [--seed N]
 *                         [--readers N] [--except PATH:FIELD]… [--limit N] [--json]
 *
 * Exit status: 0 equal, 1 different, 2 wrong usage or no such tree. File calls are synchronous: a process that serves
 * the tree itself must start this as a program ({@link checkTree}), else it waits for itself.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { type Entry, listTree } from './manifest/list.ts';
import { digestFile, type How, randomSeries } from './manifest/read.ts';
import type { ReaderTask } from './manifest/reader.ts';
import { bytesOf, type Row, readManifest } from './manifest/rows.ts';

export interface Difference {
  /** Path in the tree; bytes that are not UTF-8 as `{"base64": …}`. */
  path: string;
  /** Field of a row, `presence`, or `content`. */
  field: string;
  expected: unknown;
  actual: unknown;
}

export interface CompareOptions {
  /** `order`, `random` and `mmap`: one reader; `parallel`: several readers of the same file at once; `none`: no content. */
  how?: How | 'parallel' | 'none';
  /** Of the random order. Default 1. */
  seed?: number;
  /** For `parallel`. Default 8: two each read in random order and by mapping, the others in order. */
  readers?: number;
  /** Differences that are known: `path` as in {@link Difference}, `*` for each. */
  exceptions?: readonly { path: string; field: string }[];
}

/**
 * @param root mounted directory
 * @param manifest path of the manifest
 * @returns what differs, in the order of the tree; empty if the tree is right
 */
export async function compareWithManifest(
  root: string,
  manifest: string,
  options: CompareOptions = {},
): Promise<Difference[]> {
  const expected = new Map<string, Row>();
  for (const row of readManifest(manifest)) expected.set(keyOf(row), row);
  if (expected.size === 0) throw new Error(`${manifest} is empty`);
  const differences: Difference[] = [];
  const add = (row: Row, field: string, want: unknown, got: unknown): void => {
    const path = typeof row.path === 'string' ? row.path : JSON.stringify(row.path);
    const known = options.exceptions?.some((e) => (e.path === path || e.path === '*') && e.field === field);
    if (!known) differences.push({ path, field, expected: want, actual: got });
  };
  const files: { entry: Entry; want: Row }[] = [];
  for (const entry of listTree(root)) {
    const key = keyOf(entry.row);
    const want = expected.get(key);
    expected.delete(key);
    if (!want) {
      add(entry.row, 'presence', 'absent', 'present');
      continue;
    }
    for (const field of Object.keys({ ...want, ...entry.row }) as (keyof Row)[]) {
      if (field === 'sha256' || field === 'path' || (field === 'mtimeNanoseconds' && want[field] === undefined))
        continue;
      if (canonical(want[field]) !== canonical(entry.row[field])) add(want, field, want[field], entry.row[field]);
    }
    if (want.sha256 !== undefined && entry.row.size !== undefined) files.push({ entry, want });
  }
  for (const row of expected.values()) add(row, 'presence', 'present', 'absent');
  for (const { want, digest } of await readAll(files, options)) {
    const least = want.sha256!.length >= 32 ? want.sha256! : 'a digest of at least 32 hex digits';
    if (!digest.startsWith(least)) add(want, 'content', want.sha256, digest);
  }
  return differences;
}

/** Reads every file; a parallel reading gives each file as often as there are readers. */
async function readAll(
  files: { entry: Entry; want: Row }[],
  options: CompareOptions,
): Promise<{ want: Row; digest: string }[]> {
  const how = options.how ?? 'order';
  const seed = options.seed ?? 1;
  if (how === 'none') return [];
  if (how !== 'parallel') {
    const random = randomSeries(seed);
    return files.map(({ entry, want }) => ({ want, digest: digestFile(entry.path, entry.row.size!, how, random) }));
  }
  const ways: How[] = ['order', 'order', 'random', 'mmap'];
  const readers = Array.from({ length: options.readers ?? 8 }, (_, i) =>
    readInWorker({
      files: files.map(({ entry }) => ({ path: entry.path, size: entry.row.size! })),
      how: ways[i % ways.length],
      seed: seed + i,
    }),
  );
  const results = await Promise.all(readers);
  return results.flatMap((digests) => digests.map((digest, i) => ({ want: files[i].want, digest })));
}

function readInWorker(task: ReaderTask): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./manifest/reader.ts', import.meta.url), { workerData: task });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`a reader ended with ${code}`)));
  });
}

/** Prints the manifest of a tree, digests included, one line at a time through `print`. */
export function writeManifest(root: string, print: (line: string) => void): void {
  const random = randomSeries(1);
  for (const { path, row } of listTree(root)) {
    if (row.size !== undefined) {
      row.sha256 = digestFile(path, row.size, 'order', random);
      if (row.sha256.length !== 64) throw new Error(`${path}: ${row.sha256}`);
    }
    print(`${JSON.stringify(row)}\n`);
  }
}

/**
 * Runs the comparison in a process of its own.
 * @returns the differences
 * @throws Error if the program could not compare, or did not end within `timeout` ms (default 300 s)
 */
export function checkTree(
  root: string,
  manifest: string,
  options: CompareOptions & { timeout?: number } = {},
): Promise<Difference[]> {
  const args = [fileURLToPath(import.meta.url), root, manifest, '--json', '--how', options.how ?? 'order'];
  if (options.seed !== undefined) args.push('--seed', String(options.seed));
  if (options.readers !== undefined) args.push('--readers', String(options.readers));
  for (const { path, field } of options.exceptions ?? []) args.push('--except', `${path}:${field}`);
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeout ?? 300_000,
      killSignal: 'SIGKILL',
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (data: Buffer) => out.push(data));
    child.stderr.on('data', (data: Buffer) => err.push(data));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0 || code === 1) resolve(JSON.parse(Buffer.concat(out).toString()) as Difference[]);
      else reject(new Error(`comparing ${root} ended with ${signal ?? code}: ${Buffer.concat(err)}`));
    });
  });
}

/** @returns a difference as one line for people */
export function describe(difference: Difference): string {
  const { path, field, expected, actual } = difference;
  return `${path}: ${field}: expected ${canonical(expected)}, got ${canonical(actual)}`;
}

function keyOf(row: Row): string {
  return bytesOf(row.path).toString('latin1');
}

/** Text of a value, with keys in order. */
function canonical(value: unknown): string {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return JSON.stringify(value) ?? 'nothing';
  return JSON.stringify(Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))));
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      how: { type: 'string', default: 'order' },
      seed: { type: 'string' },
      readers: { type: 'string' },
      except: { type: 'string', multiple: true, default: [] },
      limit: { type: 'string', default: '20' },
      json: { type: 'boolean', default: false },
    },
  });
  const [root, manifest] = positionals;
  if (!root || positionals.length > 2 || !['order', 'random', 'mmap', 'parallel', 'none'].includes(values.how)) {
    console.error('usage: manifest.ts DIR [MANIFEST] [--how order|random|mmap|parallel|none] [--seed N] [--readers N]');
    return 2;
  }
  if (!manifest) {
    writeManifest(root, (line) => process.stdout.write(line));
    return 0;
  }
  const differences = await compareWithManifest(root, manifest, {
    how: values.how as CompareOptions['how'],
    seed: values.seed === undefined ? undefined : Number(values.seed),
    readers: values.readers === undefined ? undefined : Number(values.readers),
    exceptions: values.except.map((text) => {
      const colon = text.lastIndexOf(':');
      return { path: text.slice(0, colon), field: text.slice(colon + 1) };
    }),
  });
  if (values.json) process.stdout.write(JSON.stringify(differences));
  else {
    for (const difference of differences.slice(0, Number(values.limit))) console.log(describe(difference));
    console.log(`${differences.length} differences`);
  }
  return differences.length === 0 ? 0 : 1;
}

if (import.meta.main)
  main().then(
    (code) => {
      process.exitCode = code;
    },
    (error) => {
      console.error(error);
      process.exitCode = 2;
    },
  );
