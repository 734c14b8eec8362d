/**
 * Images of the upstream builders through the whole program, by EROFS, as FUSE trees, and by fuse-native, compared with
 * their manifests inode by inode and byte by byte.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountInfo } from '../../src/daemon/api.ts';
import { cannotMount, mountsBelow, type TestDaemon, testDaemon } from '../daemon.ts';
import { encryptImage } from '../encrypted-image.ts';
import { APP_LAYOUT, APP_MANIFEST, sharedFixture, unpackKinds } from '../fixtures.ts';
import { type CompareOptions, checkTree, type Difference, describe as tell } from '../manifest.ts';
import { NATIVE_CANNOT, noNativeDriver } from '../native.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';

const skip = cannotMount();
const noNative = await noNativeDriver();
const NATIVE = '[fuse]\ndriver = "fuse-native"\n';
const KNOWN_APP = ['/srv', '/srv/pages'].map((path) => ({ path, field: 'mtime' }));

interface Sample {
  name: string;
  reference: string;
  manifest: string;
  exceptions?: CompareOptions['exceptions'];
  /** All four ways of reading take long for a large one. */
  hows?: CompareOptions['how'][];
}

const HOWS: CompareOptions['how'][] = ['order', 'random', 'mmap', 'parallel'];

const VIAS = ['erofs', 'fuse'] as const;
type Via = (typeof VIAS)[number];

/** The tree is right, by EROFS and by FUSE, by each way of reading, from an empty cache each time. */
async function checkImage(daemon: TestDaemon, sample: Sample, vias: readonly Via[] = VIAS): Promise<void> {
  for (const via of vias) for (const how of sample.hows ?? HOWS) await checkReading(daemon, sample, via, how);
}

async function checkReading(daemon: TestDaemon, sample: Sample, via: Via, how: CompareOptions['how']): Promise<void> {
  const place = daemon.place('m');
  await mountBy(daemon, sample, via, place);
  const { fuse } = await daemon.client.status();
  const exceptions = [...(sample.exceptions ?? []), ...(fuse.driver === 'fuse-native' ? NATIVE_CANNOT : [])];
  const differences = await checkTree(place, sample.manifest, { how, exceptions });
  assert.deepEqual(first(differences), [], `${sample.name}, by ${via}, ${how}`);
  assert.equal((await daemon.nymph('umount', place)).status, 0);
  await pruneAll(daemon);
}

/** Until nothing is left: the kernel keeps a mount in use for a moment after its last reader has ended. */
async function pruneAll(daemon: TestDaemon): Promise<void> {
  for (let tries = 0; ; tries++) {
    const pruned = await daemon.nymph('prune', '--all');
    assert.equal(pruned.status, 0, pruned.err);
    const { cache } = await daemon.client.status();
    if (cache.blobs === 0 && cache.images === 0) return;
    assert.ok(tries < 20, 'the next reading begins with an empty cache');
    await sleep(500);
  }
}

async function mountBy(daemon: TestDaemon, { reference }: Sample, via: Via, place: string): Promise<void> {
  const mounted = await daemon.nymph('mount', '--prefetch', 'none', '--via', via, reference, place);
  assert.equal(mounted.status, 0, mounted.err);
  assert.equal((mounted.json as MountInfo).kind, via);
}

/** Reads with 8 readers while the daemon is killed again and again; nobody notices. */
async function checkKills(daemon: TestDaemon, sample: Sample, times: number, via: Via = 'erofs'): Promise<number[]> {
  const place = daemon.place('m');
  await mountBy(daemon, sample, via, place);
  let reading = true;
  const compared = checkTree(place, sample.manifest, { how: 'parallel', exceptions: sample.exceptions });
  compared.finally(() => (reading = false)).catch(() => {});
  const gaps: number[] = [];
  for (let i = 0; i < times; i++) {
    await sleep(100 + Math.random() * 400);
    const { pid } = await daemon.client.health();
    assert.ok(reading, `${sample.name} was read before kill ${i + 1}: the test shows nothing`);
    const begun = performance.now();
    await daemon.kill('daemon');
    await daemon.another(pid);
    gaps.push(Math.round(performance.now() - begun));
  }
  assert.deepEqual(first(await compared), [], sample.name);
  const { mounts } = await daemon.client.status();
  assert.deepEqual(
    mounts.map((mount) => mount.state),
    ['ok'],
  );
  assert.equal((await daemon.nymph('umount', place)).status, 0);
  return gaps;
}

describe('images', { skip }, () => {
  const kinds = mkdtempSync(join(tmpdir(), 'nymph-kinds-'));
  const unpacked = unpackKinds(join(kinds, 'kinds'));
  const registries: TestRegistry[] = [];
  after(async () => {
    for (const registry of registries) await registry.close();
    rmSync(kinds, { recursive: true });
  });

  const registry = async (): Promise<TestRegistry> => {
    const oci = ['app', 'python'].flatMap((name) => {
      const path = sharedFixture('oci', name);
      return path === null ? [] : [[`shared/${name}`, path]];
    });
    const started = await startRegistry({ layouts: { app: APP_LAYOUT, ...Object.fromEntries(oci) } });
    registries.push(started);
    return started;
  };
  const daemonFor = (t: { after(clean: () => Promise<void>): void }, host: string, toml = '') =>
    testDaemon(t, { toml: `${toml}[registry]\nplain_http = ["${host}"]\n` });
  const app = (host: string): Sample => ({
    name: 'app',
    reference: `${host}/app:nydus`,
    manifest: APP_MANIFEST,
    exceptions: KNOWN_APP,
  });
  const kindsSample: Sample = {
    name: 'kinds',
    reference: `rafs:${join(kinds, 'kinds', 'v6-zstd-batch')}`,
    manifest: unpacked.manifest,
  };

  test('a converted image, from a registry', async (t) => {
    const { host } = await registry();
    await checkImage(await daemonFor(t, host), app(host));
  });

  test('every kind of inode, with batches, from a folder', async (t) => {
    await checkImage(await testDaemon(t), kindsSample);
  });

  for (const via of VIAS)
    test(`8 readers do not notice that the daemon is killed, by ${via}`, async (t) => {
      const slow = await registry();
      const daemon = await daemonFor(t, slow.host);
      slow.faults.bandwidth = 1 << 20;
      const gaps = await checkKills(daemon, app(slow.host), 3, via);
      t.diagnostic(`ms from kill -9 to served again: ${gaps.join(', ')}`);
    });

  test('by fuse-native: a converted image, and every kind of inode', { skip: noNative }, async (t) => {
    const { host } = await registry();
    const daemon = await daemonFor(t, host, NATIVE);
    await checkImage(daemon, app(host), ['fuse']);
    await checkImage(daemon, kindsSample, ['fuse']);
  });

  test('every kind of inode, encrypted, from a folder', async (t) => {
    const folder = join(kinds, 'encrypted');
    const [id] = readdirSync(unpacked.blobs);
    encryptImage(readFileSync(unpacked.bootstrap), readFileSync(join(unpacked.blobs, id)), folder);
    await checkImage(await testDaemon(t), {
      name: 'encrypted',
      reference: `rafs:${folder}`,
      manifest: unpacked.manifest,
      hows: ['random', 'parallel'],
    });
  });

  const python = sharedFixture('oci', 'python');
  const shared = python === null ? 'the shared set of images is absent (NYMPH_SHARED)' : false;

  test('images of the shared set, from a registry', { skip: shared }, async (t) => {
    const { host } = await registry();
    const daemon = await daemonFor(t, host);
    const manifest = sharedFixture('manifests', 'app.jsonl')!;
    for (const tag of ['nydus', 'batch', 'nydus5', 'zran'])
      await checkImage(daemon, {
        name: `shared/app:${tag}`,
        reference: `${host}/shared/app:${tag}`,
        manifest,
        exceptions: KNOWN_APP,
        hows: ['random', 'parallel'],
      });
    await checkImage(daemon, {
      name: 'shared/python:nydus',
      reference: `${host}/shared/python:nydus`,
      manifest: sharedFixture('manifests', 'python.jsonl')!,
      hows: ['order', 'parallel'],
    });
  });

  test('a Debian root as a FUSE tree, 8 readers, and the daemon is killed', { skip: shared }, async (t) => {
    const slow = await registry();
    const daemon = await daemonFor(t, slow.host);
    slow.faults.latency = 10;
    const reference = `${slow.host}/shared/python:nydus`;
    const manifest = sharedFixture('manifests', 'python.jsonl')!;
    const gaps = await checkKills(daemon, { name: 'python', reference, manifest }, 4, 'fuse');
    t.diagnostic(`ms from kill -9 to served again: ${gaps.join(', ')}`);
  });

  test('every way to build v6, from folders of the shared set', { skip: shared }, async (t) => {
    const daemon = await testDaemon(t);
    const rafs = sharedFixture('rafs')!;
    for (const name of readdirSync(rafs).filter((entry) => entry.startsWith('v6-'))) {
      await checkImage(daemon, {
        name,
        reference: `rafs:${join(rafs, name)}`,
        manifest: sharedFixture('manifests', kindsManifest(name))!,
        hows: /encrypt|targz/.test(name) ? ['random', 'mmap', 'parallel'] : ['random', 'parallel'],
      });
    }
  });

  test('every way to build v5, from folders of the shared set', { skip: shared }, async (t) => {
    const daemon = await testDaemon(t);
    const manifest = sharedFixture('manifests', 'kinds.jsonl')!;
    for (const name of ['v5-lz4', 'v5-none-aligned', 'v5-zstd-sha256'])
      await checkImage(daemon, { name, reference: `rafs:${sharedFixture('rafs', name)}`, manifest });
  });

  test('8 readers of a v5 or ZRAN image do not notice that the daemon is killed', { skip: shared }, async (t) => {
    const slow = await registry();
    const daemon = await daemonFor(t, slow.host);
    slow.faults.bandwidth = 1 << 20;
    for (const tag of ['nydus5', 'zran'])
      await checkKills(daemon, { ...app(slow.host), name: tag, reference: `${slow.host}/shared/app:${tag}` }, 3);
  });

  test('by fuse-native: images of the shared set', { skip: shared || noNative }, async (t) => {
    const { host } = await registry();
    const daemon = await daemonFor(t, host, NATIVE);
    const rafs = sharedFixture('rafs')!;
    for (const name of readdirSync(rafs)) {
      const manifest = sharedFixture('manifests', kindsManifest(name))!;
      await checkImage(daemon, { name, reference: `rafs:${join(rafs, name)}`, manifest, hows: ['parallel'] }, ['fuse']);
    }
    for (const tag of ['nydus', 'batch', 'nydus5', 'zran'])
      await checkImage(
        daemon,
        {
          name: `shared/app:${tag}`,
          reference: `${host}/shared/app:${tag}`,
          manifest: sharedFixture('manifests', 'app.jsonl')!,
          exceptions: KNOWN_APP,
          hows: ['random'],
        },
        ['fuse'],
      );
  });

  test('ordinary images are refused by name', { skip: shared }, async (t) => {
    const { host } = await registry();
    const daemon = await daemonFor(t, host);
    await checkRefused(daemon, `${host}/shared/app:plain`, /nydus/i);
  });
});

/** The tree of a folder of the shared set: from a tar, or from the directory itself. */
function kindsManifest(name: string): string {
  return name === 'v6-targz-ref' ? 'kinds-tar.jsonl' : 'kinds.jsonl';
}

/** A few are enough to see what is wrong. */
function first(differences: Difference[]): string[] {
  return differences.slice(0, 5).map(tell);
}

/** @param where a folder or a reference */
async function checkRefused(daemon: TestDaemon, where: string, feature: RegExp): Promise<void> {
  const place = daemon.place('refused');
  const { status, json, err } = await daemon.nymph('mount', where.startsWith('/') ? `rafs:${where}` : where, place);
  const { error } = json as { error: { code: string; message: string } };
  assert.deepEqual([status, error.code], [6, 'unsupported'], err);
  assert.match(error.message, feature);
  assert.deepEqual(mountsBelow(place), []);
  const { cache, mounts } = await daemon.client.status();
  assert.deepEqual([cache.images, cache.blobs, mounts.length], [0, 0, 0], 'nothing is left behind');
}
