/**
 * What every FUSE driver promises (`src/fuse/driver.ts`), tried through the kernel: the driver runs in a process of its
 * own (`driver-server.ts`), and so does whoever reads.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { clearMounts, run, until } from './daemon.ts';
import type { Mood, Said } from './driver-server.ts';
import { flattenBlobs } from './flat.ts';
import { makeImage } from './made-image.ts';
import { type CompareOptions, checkTree, writeManifest } from './manifest.ts';
import { makeManyFiles, noiseBytes } from './tree.ts';

const SERVER = fileURLToPath(new URL('./driver-server.ts', import.meta.url));
const BIG = (3 << 20) + 5;

interface Subject {
  /** The mounts of the two images. */
  places: string[];
  /** Tells the server something, and hears of what came before. */
  tell(line: Mood | 'release' | 'ready' | 'half' | 'mark' | 'unregister' | 'statistics'): Promise<Required<Said>>;
}

/** @param exceptions what this driver cannot tell, see `compareWithManifest` */
export function driverSuite(
  name: string,
  skip: string | false,
  exceptions: NonNullable<CompareOptions['exceptions']> = [],
): void {
  describe(`driver promises: ${name}`, { skip }, () => {
    let scratch: string;
    const images: string[] = [];
    const manifests: string[] = [];

    before(async () => {
      scratch = mkdtempSync(join(tmpdir(), 'nymph-suite-'));
      for (const [i, fill] of [fillFirst, fillSecond].entries()) {
        const image = join(scratch, String(i));
        mkdirSync(image);
        const { truth } = await makeImage(image, 'i', fill, { compressor: 'none', chunkSize: 1 << 16 });
        const home = join(scratch, `flat${i}`);
        mkdirSync(home);
        await run('cp', [join(image, 'i-bootstrap'), join(home, 'bootstrap')]);
        flattenBlobs(join(home, 'bootstrap'), join(image, 'i-blobs'), join(home, 'flat'));
        images.push(home);
        const lines: string[] = [];
        writeManifest(truth, (line) => lines.push(line));
        manifests.push(join(scratch, `${i}.jsonl`));
        writeFileSync(manifests[i], lines.join(''));
      }
    });
    after(() => rmSync(scratch, { recursive: true, force: true }));

    const check = async (place: string, i: number, how: CompareOptions['how']) =>
      assert.deepEqual((await checkTree(place, manifests[i], { how, exceptions })).slice(0, 5), []);
    const serve = (t: TestContext) => start(t, name, images);

    test('names, attributes and content of what is here are right, and nobody is asked', async (t) => {
      const { places, tell } = await serve(t);
      await tell('ready');
      for (const how of ['order', 'random', 'mmap', 'parallel'] as const) await check(places[0], 0, how);
      await check(places[1], 1, 'order');
      const { asked, hits, faults } = await tell('statistics');
      assert.deepEqual([asked, faults], [[], 0]);
      assert.ok(hits > 600, `${hits} hits`);
    });

    test('what is not here is asked for, by blob and offset', async (t) => {
      const { places, tell } = await serve(t);
      await tell('half');
      await check(places[0], 0, 'random');
      const { asked, hits, faults } = await tell('statistics');
      assert.ok(faults > 0 && hits > 0 && asked.length >= faults, `${faults} faults, ${hits} hits`);
      assert.ok(asked.every(({ ino, length }) => ino === 2 ** 20 && length > 0));
    });

    test('who cannot be served gets EIO, and the next is', async (t) => {
      const { places, tell } = await serve(t);
      await tell('fail');
      const failed = await cat(places[0], 'big');
      assert.match(failed.err, /Input\/output error/);
      await tell('give');
      const read = await cat(places[0], 'big');
      assert.deepEqual(read.out, noiseBytes(BIG, 7));
    });

    test('a read that waits holds up no other', async (t) => {
      const { places, tell } = await serve(t);
      await tell('hold');
      const waiting = cat(places[0], 'big');
      await until(10_000, 'nobody asks', async () => (await tell('statistics')).asked.length > 0 || undefined);
      await tell('ready');
      assert.equal((await cat(places[1], 'text')).out.toString(), 'the other image\n');
      assert.equal((await run('ls', [join(places[0], 'd000')], { timeout: 20_000 })).status, 0);
      // Read-ahead may ask for more than the first.
      const releasing = setInterval(() => void tell('release'), 50);
      const { out } = await waiting.finally(() => clearInterval(releasing));
      assert.deepEqual(out, noiseBytes(BIG, 7));
    });

    test('a reader that comes to a mark is told of, once', async (t) => {
      const { places, tell } = await serve(t);
      await tell('ready');
      await tell('mark');
      await check(places[1], 1, 'order');
      await check(places[1], 1, 'order');
      assert.equal((await tell('statistics')).reached, 1);
    });

    test('a descriptor that was given back is not read any more', async (t) => {
      const { places, tell } = await serve(t);
      await tell('ready');
      await check(places[1], 1, 'order');
      await tell('unregister');
      assert.deepEqual((await cat(places[0], 'big')).out, noiseBytes(BIG, 7));
      assert.ok((await tell('statistics')).asked.length > 0);
    });
  });
}

function fillFirst(tree: string): void {
  makeManyFiles(tree, { count: 700, perDirectory: 650, maxSize: 9000, seed: 3 });
  writeFileSync(join(tree, 'big'), noiseBytes(BIG, 7));
  linkSync(join(tree, 'big'), join(tree, 'd000', 'again'));
  symlinkSync('../d000/somewhere', join(tree, 'link'));
}

function fillSecond(tree: string): void {
  writeFileSync(join(tree, 'text'), 'the other image\n');
}

function cat(place: string, name: string) {
  return run('cat', [join(place, name)], { timeout: 20_000 });
}

async function start(t: TestContext, driver: string, images: readonly string[]): Promise<Subject> {
  const directory = mkdtempSync('/tmp/nymph-');
  const places = images.map((_, i) => join(directory, `m${i}`));
  for (const place of places) mkdirSync(place);
  const child: ChildProcess = spawn(process.execPath, [SERVER, driver, directory, ...images], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await clearMounts(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  const lines: Said[] = [];
  let ended = false;
  child.on('exit', () => (ended = true));
  createInterface({ input: child.stdout! }).on('line', (line) => lines.push(JSON.parse(line) as Said));
  const said = (what: string, is: (line: Said) => boolean) =>
    until(20_000, `the server says nothing of ${what}`, async () => {
      if (ended) throw new Error('the server ended');
      const at = lines.findIndex(is);
      return at < 0 ? undefined : lines.splice(at, 1)[0];
    });
  await said('its start', ({ up }) => up === true);
  return {
    places,
    async tell(line) {
      child.stdin!.write(`${line}\n`);
      return (await said(line, ({ done }) => done === line)) as Required<Said>;
    },
  };
}
