/** What tests of mounted models have in common. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { run, type TestDaemon, until } from './daemon.ts';
import { checkTree } from './manifest.ts';
import type { ModelFile } from './model.ts';
import { startReaders } from './readers.ts';

type Test = { after(clean: () => void): void };

export function scratch(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'nymph-models-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** The same files in a directory. */
export function writeTruth(directory: string, files: readonly ModelFile[]): void {
  for (const { path, bytes } of files) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), bytes);
  }
}

export async function mount(daemon: TestDaemon, reference: string, place: string, ...options: string[]): Promise<void> {
  const { status, err } = await daemon.nymph('mount', ...options, reference, place);
  assert.equal(status, 0, err);
}

export const sums = (place: string) => run('sh', ['-c', 'cd "$0" && find . -type f | sort | xargs sha256sum', place]);

/** Every file has its digest, read in order, at random by 16 threads, and by mmap. @param manifest a file that may be written */
export async function checkReads(
  t: Test,
  daemon: TestDaemon,
  truth: string,
  place: string,
  manifest: string,
): Promise<void> {
  const opens = async () => (await daemon.client.status()).fuse.requests.open ?? 0;
  const before = await opens();
  const readers = startReaders(t, truth, place, { readers: 16, maxRead: 3 << 20 });
  assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
  // On a busy machine they take a while to begin.
  await until(60_000, 'nobody reads', async () => (await opens()) > before + 40 || undefined);
  const seen = await readers.stop();
  assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
  assert.ok(seen.reads > 0);
  writeFileSync(manifest, (await run(process.execPath, ['test/manifest.ts', place])).out);
  assert.deepEqual(await checkTree(place, manifest, { how: 'mmap' }), []);
}

export function noModctl(): string | false {
  return spawnSync('modctl', ['version']).error !== undefined && 'no modctl on the PATH';
}

/** Has modctl build the folder `<directory>/model` and push it. @param lines of a Modelfile */
export async function buildByModctl(
  directory: string,
  reference: string,
  lines: string[],
  raw: boolean,
): Promise<void> {
  const modelfile = join(directory, 'Modelfile');
  writeFileSync(modelfile, `${lines.join('\n')}\n`);
  const storage = ['--storage-dir', join(directory, 'storage'), '--log-dir', directory, '--no-progress'];
  const how = [`--raw=${raw}`, '--plain-http', '--output-remote', ...storage];
  const built = await run('modctl', ['build', '-t', reference, '-f', modelfile, ...how, join(directory, 'model')]);
  assert.equal(built.status, 0, built.err + built.out);
}
