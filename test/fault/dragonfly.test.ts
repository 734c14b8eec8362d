/** Images through a dfdaemon that fails in every way: reads are right, and go on from the registry. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PreheatResult } from '../../src/daemon/api.ts';
import { NymphError } from '../../src/errors.ts';
import { exitStatus } from '../../src/exit-status.ts';
import { cannotMount, NYMPH, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import type { DfdaemonFaults } from '../dfdaemon/faults.ts';
import { type ProxyFaults, startDfdaemonProxy } from '../dfdaemon/proxy.ts';
import { type Dfdaemon, startDfdaemon } from '../dfdaemon/stand-in.ts';
import { APP_LAYOUT, APP_MANIFEST } from '../fixtures.ts';
import { checkTree } from '../manifest.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';

const skip = cannotMount();
const EXCEPTIONS = ['/srv', '/srv/pages'].map((path) => ({ path, field: 'mtime' }));

interface Stage {
  daemon: TestDaemon;
  registry: TestRegistry;
  socket: string;
  reference: string;
  /** A dfdaemon whose peers have the image, unless told otherwise. */
  dfdaemon(faults?: DfdaemonFaults, warm?: boolean): Promise<Dfdaemon>;
  /** Mounts the image, reads and compares all of it, and unmounts it. */
  check(): Promise<void>;
  fetched(): Promise<{ swarm: number; registry: number; total: number }>;
}

async function stage(t: TestContext, proxy?: URL): Promise<Stage> {
  const registry = await startRegistry({ layouts: { app: APP_LAYOUT }, faults: { latency: 40 } });
  t.after(() => registry.close());
  const directory = mkdtempSync(join(tmpdir(), 'nymph-dfdaemon-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, 'dfdaemon.sock');
  const toml = `[dragonfly]\n${proxy ? `proxy = "${proxy.href}"` : `endpoint = "unix://${socket}"`}\n`;
  const daemon = await testDaemon(t, { start: false, toml });
  const reference = `${registry.host}/app:nydus`;
  return {
    daemon,
    registry,
    socket,
    reference,
    async dfdaemon(faults = {}, warm = true) {
      const made = await startDfdaemon({ socket, faults, pieceLength: 1 << 20 });
      t.after(() => made.kill());
      if (warm) putBlobs(made.peers);
      return made;
    },
    async check() {
      const place = daemon.place('m');
      const mounted = await daemon.nymph('mount', reference, place);
      assert.equal(mounted.status, 0, mounted.err);
      assert.deepEqual(await checkTree(place, APP_MANIFEST, { how: 'random', exceptions: EXCEPTIONS }), []);
      const { fetch } = await daemon.client.status();
      assert.equal(fetch.failed, 0);
      assert.equal((await daemon.nymph('umount', place)).status, 0);
    },
    async fetched() {
      const { sources } = (await daemon.client.status()).fetch;
      const swarm = sources.dragonfly?.bytes ?? 0;
      const total = Object.values(sources).reduce((sum, { bytes }) => sum + bytes, 0);
      return { swarm, registry: total - swarm, total };
    },
  };
}

function putBlobs(objects: Map<string, Buffer>): void {
  const blobs = join(APP_LAYOUT, 'blobs', 'sha256');
  for (const name of readdirSync(blobs)) objects.set(name, readFileSync(join(blobs, name)));
}

test('an image comes from peers, and each byte of it is right', { skip }, async (t) => {
  const { daemon, check, dfdaemon, fetched } = await stage(t);
  const { stats } = await dfdaemon();
  await daemon.start();
  await check();
  const { swarm, registry, total } = await fetched();
  assert.ok(swarm > 0.5 * total, `${swarm} bytes from peers, ${registry} from the registry`);
  assert.equal(stats.fromOrigin, 0);
  assert.ok(daemon.logged('Dragonfly is here').length === 1);
  const { out } = await run(NYMPH, ['--address', daemon.address, 'status']);
  assert.match(out.toString(), /fetched: +.* from other peers .* from a seed .* from the origin/);
  assert.match(out.toString(), /dragonfly: +[\d.]+ MiB in [1-9]\d* requests?/);
});

test('a pull of what peers have takes no more than a tenth of it from the registry', { skip }, async (t) => {
  const { daemon, dfdaemon, fetched, reference, registry: slow } = await stage(t);
  // On a busy machine the stream may be late, and the registry is asked as well: then it loses.
  slow.faults.bandwidth = 256 << 10;
  await dfdaemon();
  await daemon.start();
  const { status, err } = await daemon.nymph('pull', reference);
  assert.equal(status, 0, err);
  const { swarm, registry, total } = await fetched();
  assert.ok(swarm >= 0.9 * total, `${swarm} bytes from peers, ${registry} from the registry`);
});

const FAULTS: [string, DfdaemonFaults][] = [
  ['stalls at once', { stall: { after: -1 } }],
  ['stalls in mid-stream', { stall: { after: 2 } }],
  ['sends wrong bytes', { flip: { piece: 1 } }],
  ['sends short pieces', { short: { piece: 2 } }],
  ['sends pieces that are none of the object', { outside: { piece: 0 } }],
  ['names a wrong size', { longer: { by: -1_000_000 } }],
  ['leaves pieces out', { missing: { pieces: 3 } }],
  ['sheds load', { status: { code: 8, details: 'too many requests' } }],
  ['has a full disk', { status: { code: 13, details: 'No space left on device', after: 3 } }],
  ['blocks the image', { status: { code: 7, details: 'blocked' } }],
  ['gets a 401 from the registry', { origin: { status: 401 } }],
  ['gets a 503 from the registry in mid-stream', { origin: { status: 503, after: 2 } }],
];
// Each meets a daemon of its own: one that has failed is left alone for a while.
for (const [name, fault] of FAULTS)
  test(`a dfdaemon that ${name}`, { skip }, async (t) => {
    const { daemon, check, dfdaemon } = await stage(t);
    const { stats } = await dfdaemon(fault);
    await daemon.start();
    await check();
    assert.ok(stats.downloads.length > 0, 'it was asked');
    assert.equal(daemon.logged('"level":50').length, 0, daemon.logged('"level":50')[0]);
  });

for (const links of ['other file system', 'unseen'] as const)
  test(`a dfdaemon that sends wrong bytes through the socket: its files are ${links}`, { skip }, async (t) => {
    const { daemon, check, dfdaemon } = await stage(t);
    const made = await dfdaemon({ flip: { piece: 1 } });
    made.links = links;
    await daemon.start();
    await check();
    assert.ok(made.stats.downloads.some(({ needPieceContent }) => needPieceContent));
  });

test('no dfdaemon at the start, and one that appears later', { skip }, async (t) => {
  const { daemon, check, dfdaemon, fetched } = await stage(t);
  await daemon.start();
  await check();
  assert.equal((await fetched()).swarm, 0);
  assert.equal((await daemon.nymph('prune', '--all')).status, 0);
  await dfdaemon();
  // It is looked for when something is wanted.
  await until(20_000, 'it is not found', async () => {
    await check();
    await daemon.nymph('prune', '--all');
    return (await fetched()).swarm > 0 || undefined;
  });
});

test('a dfdaemon that is killed in mid-stream, twice, and comes back', { skip }, async (t) => {
  const { daemon, dfdaemon, check, fetched } = await stage(t);
  const first = await dfdaemon({}, true);
  first.rate = 2 << 20;
  await daemon.start();
  const checking = check();
  await until(20_000, 'no stream', async () => first.stats.sent > 1 << 20 || undefined);
  first.kill();
  const second = await dfdaemon({ stall: { after: 1 } });
  await checking;
  second.kill(true);
  await daemon.nymph('prune', '--all');
  await check();
  assert.ok((await fetched()).swarm > 0);
});

test('nobody has it, and then this node’s dfdaemon gets it from the registry, with our login', { skip }, async (t) => {
  const { daemon, dfdaemon, registry, reference, fetched } = await stage(t);
  registry.faults.auth = { kind: 'token' };
  registry.faults.bandwidth = 1 << 20;
  const { stats, local } = await dfdaemon({}, false);
  await daemon.start();
  const { status, err } = await daemon.nymph('pull', reference);
  assert.equal(status, 0, err);
  assert.deepEqual([...new Set(stats.downloads.map((download) => download.disableBackToSource))], [true, false]);
  assert.ok((await fetched()).registry > 0);
  assert.ok(local.size === 0 || stats.fromOrigin > 0);
});

const PROXY_FAULTS: [string, ProxyFaults][] = [
  ['serves', {}],
  ['does not answer', { stall: {} }],
  ['sends wrong bytes', { flip: {} }],
];
for (const [name, faults] of PROXY_FAULTS)
  test(`a proxy of dfdaemon that ${name}`, { skip }, async (t) => {
    const proxy = await startDfdaemonProxy();
    t.after(() => proxy.close());
    putBlobs(proxy.objects);
    Object.assign(proxy.faults, faults);
    const { daemon, check, fetched } = await stage(t, proxy.address);
    await daemon.start();
    await check();
    assert.ok(proxy.asked.length > 0, 'it was asked');
    if (name === 'serves') assert.ok((await fetched()).swarm > 1 << 20);
  });

test('preheat has dfdaemon get all blobs, and nothing is kept here', { skip }, async (t) => {
  const { daemon, dfdaemon, reference } = await stage(t);
  await daemon.start();
  const none = await daemon.nymph('preheat', reference);
  assert.equal(none.status, exitStatus(new NymphError('precondition', '')), none.err);
  const { stats, local } = await dfdaemon({}, false);
  await until(10_000, 'dfdaemon is not found', async () => {
    const { status, json, err } = await daemon.nymph('preheat', reference);
    if (status !== 0) return void (await sleep(200, err));
    const [{ by, blobs, bytes }] = (json as { images: PreheatResult[] }).images;
    assert.equal(by, 'dfdaemon');
    assert.equal(blobs, local.size);
    assert.equal(
      [...local.values()].reduce((sum, { length }) => sum + length, 0),
      bytes,
    );
    return true;
  });
  assert.equal(stats.fromOrigin > 0, true);
  assert.equal((await daemon.client.status()).cache.blobs, 0, 'nothing is put into our own cache');
});
