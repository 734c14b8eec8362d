/** Compressed tars of models where the disk is full, and where the daemon dies. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { cannotMount, testDaemon, until } from '../daemon.ts';
import { type ModelFile, put, putManifest, tarLayer } from '../model.ts';
import { mount, scratch, sums, writeTruth } from '../model-mount.ts';
import { madeBytes } from '../registry/layout.ts';
import { startRegistry } from '../registry/registry.ts';
import { smallDisk } from '../small-disk.ts';

const MIB = 1 << 20;
const MODEL = 'application/vnd.cncf.model.';
const FILES: ModelFile[] = [
  { path: 'config.json', bytes: Buffer.from('{}') },
  { path: 'one.safetensors', bytes: madeBytes(14 * MIB + 5, 1) },
  { path: 'two.safetensors', bytes: madeBytes(9 * MIB + 7, 2) },
];

function made(t: TestContext): { layout: string; truth: string } {
  const directory = scratch(t);
  const [layout, truth] = [join(directory, 'layout'), join(directory, 'truth')];
  mkdirSync(truth);
  writeTruth(truth, FILES);
  const layers = [tarLayer(layout, `${MODEL}weight.v1.tar+gzip`, FILES)];
  putManifest(layout, 'v1', { config: put(layout, `${MODEL}config.v1+json`, Buffer.from('{}')), layers });
  return { layout, truth };
}

describe('compressed tars', { skip: cannotMount() }, () => {
  test('on a full disk are mounted all the same, and every read is right', async (t) => {
    const small = await smallDisk(t, 40 * MIB);
    if ('why' in small) return t.skip(small.why);
    const { layout, truth } = made(t);
    const { bavail, bsize } = statfsSync(small.point);
    writeFileSync(join(small.point, 'ballast'), Buffer.alloc(Math.max(0, bavail * bsize - 12 * MIB), 1));
    const daemon = await testDaemon(t, { root: join(small.point, 'r') });
    const place = daemon.place('m');
    await mount(daemon, `oci:${layout}:v1`, place, '--prefetch', 'none');
    assert.equal((await daemon.told('is not kept unpacked')).length, 1);
    assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
    assert.deepEqual(readdirSync(join(daemon.root, 'tmp')), []);
  });

  test('a daemon that dies while it unpacks one leaves nothing, and the next one mounts it', async (t) => {
    const { layout, truth } = made(t);
    const registry = await startRegistry({ layouts: { 'models/tiny': layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t);
    await daemon.supervised();
    const reference = `${registry.host}/models/tiny:v1`;
    const place = daemon.place('m');
    // 23 MiB take a minute.
    registry.faults.bandwidth = 400_000;
    const mounting = daemon.nymph('mount', reference, place);
    const temporary = join(daemon.root, 'tmp');
    await until(30_000, 'nothing is unpacked', async () => readdirSync(temporary).length > 0 || undefined);
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    assert.notEqual((await mounting).status, 0);
    await daemon.another(pid);
    delete registry.faults.bandwidth;
    for (const directory of [temporary, join(daemon.root, 'images')])
      assert.deepEqual(existsSync(directory) ? readdirSync(directory) : [], []);
    await mount(daemon, reference, place);
    assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
  });
});
