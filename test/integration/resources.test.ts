/** What the daemon holds: memory with many images mounted, and nothing more after many mounts than after few. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cannotMount, mountsBelow, run, type TestDaemon, testDaemon } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { makeManyFiles } from '../tree.ts';

const IMAGES = 50;
const IDLE_MS = 15_000;
const MOST_MB = 110;
const ROUNDS = 500;

interface Held {
  rss: number;
  descriptors: number;
  threads: number;
}

/** MB, and counts, of a process. */
function held(pid: number): Held {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const value = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)![1]);
  return {
    rss: Math.round(value('VmRSS') / 1024),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: value('Threads'),
  };
}

describe('resources', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  const images: MadeImage[] = [];
  before(async () => {
    for (let seed = 1; seed <= IMAGES; seed++)
      images.push(await makeImage(directory, `i${seed}`, (tree) => makeManyFiles(tree, { count: 20, seed })));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));
  const mount = (daemon: TestDaemon, image: MadeImage, place: string) =>
    daemon.client.mount({ reference: `oci:${image.layout}:${image.tag}`, directory: place });

  test(`${IMAGES} images mounted and idle: less than ${MOST_MB} MB`, async (t: TestContext) => {
    const daemon = await testDaemon(t);
    const { pid } = await daemon.client.health();
    if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('/dist/')) {
      t.skip('dist/ is not built or older than src/ (make build): sources that Node strips of types take more memory');
      return;
    }
    const empty = held(pid);
    for (const image of images) await mount(daemon, image, daemon.place(image.tag));
    const used = await run('sh', ['-c', `cat ${daemon.directory}/i*/d000/* | wc -c`]);
    assert.equal(used.status, 0, used.err);
    const busy = held(pid);
    await sleep(IDLE_MS);
    const idle = held(pid);
    t.diagnostic(`VmRSS: ${empty.rss} MB at start, ${busy.rss} MB with ${IMAGES} images read, ${idle.rss} MB idle`);
    t.diagnostic(`then ${idle.descriptors} descriptors and ${idle.threads} threads`);
    assert.equal((await daemon.client.mounts()).length, IMAGES);
    assert.ok(idle.rss < MOST_MB, `${idle.rss} MB`);
  });

  test(`${ROUNDS} mounts and unmounts leave nothing`, async (t) => {
    const daemon = await testDaemon(t);
    const { pid } = await daemon.client.health();
    const places = [0, 1, 2].map((i) => daemon.place(`m${i}`));
    const round = async (i: number) => {
      const image = images[i % 3];
      const place = places[i % 3];
      await mount(daemon, image, place);
      if (i % 25 === 0) assert.equal((await run('diff', ['-r', image.truth, place])).status, 0);
      await daemon.client.unmount(place, false);
    };
    for (let i = 0; i < 60; i++) await round(i);
    await sleep(1000);
    const first = held(pid);
    const begun = performance.now();
    for (let i = 60; i < ROUNDS; i++) await round(i);
    const milliseconds = (performance.now() - begun) / (ROUNDS - 60);
    await sleep(1000);
    const last = held(pid);
    t.diagnostic(`after 60: ${JSON.stringify(first)}; after ${ROUNDS}: ${JSON.stringify(last)}`);
    t.diagnostic(`${milliseconds.toFixed(1)} ms a mount and unmount`);
    assert.ok(last.descriptors <= first.descriptors + 2, 'descriptors');
    assert.ok(last.threads <= first.threads + 1, 'threads');
    assert.ok(last.rss <= first.rss + 40, 'memory');
    assert.deepEqual(mountsBelow(join(daemon.directory, 'm0')).concat(mountsBelow(join(daemon.directory, 'm1'))), []);
    const { cache, mounts } = await daemon.client.status();
    assert.deepEqual([cache.openBlobs, mounts.length], [0, 0]);
  });
});
