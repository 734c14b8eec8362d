import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { byGrpc } from '../../src/sources/dragonfly/by-grpc.ts';
import { createDragonfly } from '../../src/sources/dragonfly/dragonfly.ts';
import { createLinks } from '../../src/sources/dragonfly/links.ts';
import { taskId } from '../../src/sources/dragonfly/task.ts';
import type { Swarm, SwarmObject, SwarmPiece } from '../../src/sources/swarm.ts';
import type { DfdaemonFaults } from '../dfdaemon/faults.ts';
import { swarmObject } from '../dfdaemon/object.ts';
import { type Dfdaemon, startDfdaemon } from '../dfdaemon/stand-in.ts';
import { known } from '../source-suite.ts';
import { until } from './cache-kit.ts';

const LOG = { debug() {}, warn() {}, info() {} };
const never = new AbortController().signal;

test('task ids are those of dfdaemon', () => {
  const id = (more: object) =>
    taskId({ url: 'https://example.com', filteredQueryParams: [], enableTaskIdBasedBlobDigest: false, ...more });
  const bare = '457b4328cde278e422c9e243f7bfd1e97f511fec43a80f535cf6b0ef6b086776';
  assert.equal(id({}), bare);
  assert.equal(id({ url: 'https://example.com?foo=foo&bar=bar', filteredQueryParams: ['foo', 'bar'] }), bare);
  assert.equal(id({ tag: 'foo' }), '3c3f230ef9f191dd2821510346a7bc138e4894bee9aee184ba250a3040701d2a');
  assert.equal(id({ application: 'bar' }), 'c9f9261b7305c24371244f9f149f5d4589ed601348fdf22d7f6f4b10658fdba2');
  assert.equal(
    id({ tag: 'foo', application: 'bar' }),
    '06408fbf247ddaca478f8cb9565fe5591c28efd0994b8fea80a6a87d3203c5ca',
  );
  assert.equal(id({ pieceLength: 1024 }), '9f7c9aafbc6f30f8f41a96ca77eeae80c5b60964b3034b0ee43ccf7b2f9e52b8');
  const hex = 'ab'.repeat(32);
  const blob = { url: `http://r.example/v2/a/b/blobs/sha256:${hex}?ns=x`, enableTaskIdBasedBlobDigest: true };
  assert.equal(id({ ...blob, tag: 'foo' }), hex, 'a blob is known by its digest');
  assert.notEqual(id({ ...blob, enableTaskIdBasedBlobDigest: false }), hex);
});

interface Stage {
  daemon: Dfdaemon;
  swarm: Swarm;
  bytes: Buffer;
  object: SwarmObject & { refusals: boolean[] };
  socket: string;
}

async function stage(
  t: TestContext,
  faults: DfdaemonFaults = {},
  warm = true,
  size = 1_000_000,
  count = 16,
): Promise<Stage> {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-df-'));
  const socket = join(directory, 'dfdaemon.sock');
  const daemon = await startDfdaemon({ socket, faults, pieceLength: Math.ceil(size / count / 65536) << 16 });
  const { bytes, object } = swarmObject('http://127.0.0.1:9/v2/a/blobs/DIGEST', size);
  if (warm) daemon.peers.set(object.digest.slice(7), bytes);
  const task = { priority: 6, digestIds: true, tag: 'nymph', application: 'tests' };
  const swarm = await createDragonfly(byGrpc(`unix://${socket}`, true, LOG), task, LOG);
  // gRPC is being loaded: until then nobody waits for an answer.
  for (let tries = 0; warm && tries < 50; tries++) if ((await swarm.look(object)) !== undefined) break;
  t.after(() => {
    swarm.close();
    daemon.kill();
    rmSync(directory, { recursive: true });
  });
  return { daemon, swarm, bytes, object, socket };
}

async function whole(swarm: Swarm, object: SwarmObject): Promise<{ bytes: Buffer; pieces: SwarmPiece[] }> {
  const { size, pieces } = await swarm.open(object, never);
  const bytes = Buffer.alloc(size);
  const list: SwarmPiece[] = [];
  for await (const piece of pieces) {
    bytes.set(piece.bytes!, piece.offset);
    list.push(piece);
  }
  return { bytes, pieces: list };
}

test('a whole object comes in pieces, out of order, with who had them', async (t) => {
  const { swarm, bytes, object, daemon } = await stage(t);
  assert.equal(swarm.available(), true);
  assert.equal(await swarm.look(object), true);
  const first = await whole(swarm, object);
  assert.ok(first.bytes.equals(bytes));
  assert.equal(first.pieces.length, 16);
  assert.deepEqual([...new Set(first.pieces.map(({ from }) => from))].sort(), ['peer', 'seed']);
  assert.ok(
    first.pieces.some((piece, i) => i > 0 && piece.offset < first.pieces[i - 1].offset),
    'the stand-in mixes them',
  );
  const again = await whole(swarm, object);
  assert.ok(again.bytes.equals(bytes));
  assert.deepEqual([...new Set(again.pieces.map(({ from }) => from))], ['local']);
  const [asked] = daemon.stats.downloads;
  assert.equal(asked.requestHeader.authorization, 'Bearer old');
  assert.equal(asked.requestHeader['accept-encoding'], 'identity');
  assert.equal(asked.outputPath, undefined, 'no file is made');
  assert.equal(asked.disableBackToSource, true);
  assert.equal(asked.priority, 6);
  assert.equal(asked.tag, 'nymph');
  assert.equal(asked.application, 'tests');
  assert.ok(asked.filteredQueryParams.includes('X-Amz-Signature') && asked.filteredQueryParams.length === 30);
});

test('pieces are not taken faster than they are wanted', async (t) => {
  const { swarm, object, daemon } = await stage(t, {}, true, 64 << 20, 64);
  const { pieces } = await swarm.open(object, never);
  const iterator = pieces[Symbol.asyncIterator]();
  await iterator.next();
  await sleep(200);
  // One was taken, one waits; HTTP/2 has 4 on the way, and the sender queues 16.
  assert.ok(daemon.stats.sent <= 28 << 20, `${daemon.stats.sent} bytes were sent`);
  await iterator.return?.();
  await until(() => daemon.stats.streams === 0);
});

test('what nobody has is not got from the origin at first', async (t) => {
  const { swarm, object, daemon } = await stage(t, {}, false);
  assert.equal(await swarm.look(object), false);
  await assert.rejects(swarm.open(object, never), known({ code: 'source', retryable: true }));
  await assert.rejects(swarm.open(object, never), known({ code: 'source', retryable: true }));
  assert.deepEqual(
    daemon.stats.downloads.map(({ disableBackToSource }) => disableBackToSource),
    [true, false],
    'then our daemon may seed it',
  );
});

const UNAVAILABLE = 14;
for (const [name, faults, expected] of [
  ['shed load', { status: { code: 8, details: 'too many requests' } }, { retryable: true }],
  ['a full disk', { status: { code: 13, details: 'No space left on device' } }, { retryable: true }],
  ['a block list', { status: { code: 7, details: 'blocked' } }, { retryable: false }],
  ['an argument that it does not like', { status: { code: 3, details: 'no' } }, { retryable: false }],
  ['an origin that has nothing', { origin: { status: 404 } }, { retryable: false, message: /origin answered 404/ }],
  [
    'an origin that is busy',
    { origin: { status: 429, header: { 'Retry-After': '3' } } },
    { retryable: true, retryAfter: 3000 },
  ],
  ['an origin that fails', { origin: { status: 503 } }, { retryable: true }],
  ['one that goes away', { status: { code: UNAVAILABLE, details: 'gone' } }, { retryable: true }],
] as const)
  test(`before the first piece: ${name}`, async (t) => {
    const { swarm, object } = await stage(t, faults);
    await assert.rejects(swarm.open(object, never), known(expected));
    assert.equal(swarm.available(), name !== 'one that goes away');
  });

for (const [name, faults, expected] of [
  ['a status', { status: { code: 13, details: 'download failed', after: 5 } }, { retryable: true }],
  ['an origin that fails', { origin: { status: 502, after: 5 } }, { retryable: true }],
  ['too few pieces', { missing: { pieces: 2 } }, { retryable: true, message: /instead of 1000000/ }],
  ['a size that is too large', { longer: { by: 10 } }, { retryable: true }],
  ['a short piece', { short: { piece: 3 } }, { retryable: false, message: /(?:65535|16959) bytes as piece/ }],
  ['a piece outside', { outside: { piece: 3 } }, { retryable: false }],
] as const)
  test(`in the midst of it: ${name}`, async (t) => {
    const { swarm, object, bytes } = await stage(t, faults);
    await assert.rejects(whole(swarm, object), known({ code: 'source', ...expected }));
    for (const key of Object.keys(faults)) delete (faults as Record<string, unknown>)[key];
    assert.ok((await whole(swarm, object)).bytes.equals(bytes));
  });

for (const links of ['here', 'other file system', 'unseen'] as const)
  test(`pieces are read out of dfdaemon's own file, or come through the socket: files are ${links}`, async (t) => {
    const { daemon, object, bytes, socket } = await stage(t);
    daemon.links = links;
    const directory = join(dirname(socket), 'links');
    mkdirSync(directory);
    writeFileSync(join(directory, 'left-by-one-that-was-killed'), '');
    const task = { priority: 6, digestIds: true, tag: 'nymph', application: 'tests' };
    const swarm = await createDragonfly(byGrpc(`unix://${socket}`, true, LOG, createLinks(directory)), task, LOG);
    t.after(() => swarm.close());
    for (let round = 0; round < 2; round++) {
      const stream = await swarm.open(object, never);
      assert.equal(stream.file !== undefined, links === 'here');
      assert.deepEqual(readdirSync(directory), [], 'no name is left');
      const got = Buffer.alloc(stream.size);
      for await (const { offset, length, bytes: own } of stream.pieces)
        if (own === undefined) readSync(stream.file!.fd, got, offset, length, offset);
        else got.set(own, offset);
      assert.ok(got.equals(bytes));
      await stream.file?.close();
    }
    const asked = daemon.stats.downloads.map(({ forceHardLink }) => forceHardLink);
    assert.deepEqual(asked, links === 'here' ? [true, true] : [true, false, false], 'it is tried once');
  });

test('pieces that overlap are none of the object', async (t) => {
  const { swarm, object } = await stage(t, { overlap: { piece: 3 } });
  await assert.rejects(whole(swarm, object), known({ code: 'source', retryable: false, message: /overlap/ }));
});

test('where one place refuses, or has it no more, another one is named', async (t) => {
  const { swarm, object, bytes, daemon } = await stage(t, { origin: { status: 404, times: 1 } });
  const asked: number[] = [];
  const places: SwarmObject = {
    ...object,
    async location(signal, refusals) {
      asked.push(refusals);
      const found = await object.location(signal, refusals & 1);
      return refusals < 4 ? found : undefined;
    },
  };
  assert.ok((await whole(swarm, places)).bytes.equals(bytes));
  assert.deepEqual(asked, [0, 2]);
  daemon.faults.origin = { status: 401 };
  asked.length = 0;
  await assert.rejects(swarm.open(places, never), known({ code: 'denied', retryable: false }));
  assert.deepEqual(asked, [0, 1, 2, 3, 4]);
});

test('pieces that come twice count once', async (t) => {
  const { swarm, object, bytes } = await stage(t, { twice: {} });
  const { pieces } = await whole(swarm, object);
  assert.equal(pieces.length, 16);
  assert.equal(
    pieces.reduce((sum, piece) => sum + piece.length, 0),
    bytes.length,
  );
});

test('a login that the origin refuses is renewed once', async (t) => {
  const { swarm, object, bytes, daemon } = await stage(t, { origin: { status: 401, times: 1 } });
  assert.ok((await whole(swarm, object)).bytes.equals(bytes));
  assert.deepEqual(object.refusals, [false, true]);
  assert.equal(daemon.stats.downloads[1].requestHeader.authorization, 'Bearer new');
  daemon.faults.origin = { status: 403 };
  await assert.rejects(swarm.open(object, never), known({ code: 'denied', retryable: false }));
  daemon.faults.origin = { status: 401, after: 2, times: 1 };
  await assert.rejects(whole(swarm, object), known({ retryable: true }));
  object.refusals.length = 0;
  assert.ok((await whole(swarm, object)).bytes.equals(bytes));
  assert.deepEqual(object.refusals, [true], 'one that expired on the way is renewed before the next start');
});

test('a daemon that is killed in mid-stream rests, and is found again', async (t) => {
  const { swarm, object, bytes, daemon, socket } = await stage(t, { stall: { after: 4 } });
  const reading = whole(swarm, object);
  await until(() => daemon.stats.sent > 200_000);
  daemon.kill();
  await assert.rejects(reading, known({ code: 'source', retryable: true }));
  assert.equal(swarm.available(), false);
  const next = await startDfdaemon({ socket });
  t.after(() => next.kill());
  next.peers.set(object.digest.slice(7), bytes);
  await until(() => swarm.available(), 10_000);
  assert.ok((await whole(swarm, object)).bytes.equals(bytes));
});

test('a socket that nobody answers costs nobody anything', async (t) => {
  const { swarm, object, daemon } = await stage(t);
  daemon.kill(true);
  assert.equal(await swarm.look(object), undefined);
  await assert.rejects(swarm.open(object, never), known({ code: 'source', retryable: true }));
  assert.equal(swarm.available(), false);
});

test('an aborted signal ends a stream, at the daemon too', async (t) => {
  const { swarm, object, daemon } = await stage(t, { stall: { after: 4 } });
  const abort = new AbortController();
  const { pieces } = await swarm.open(object, abort.signal);
  const reading = (async () => {
    for await (const _ of pieces);
  })();
  await until(() => daemon.stats.sent > 200_000);
  assert.equal(daemon.stats.streams, 1);
  abort.abort();
  await assert.rejects(reading, known({ code: 'cancelled' }));
  await until(() => daemon.stats.streams === 0);
  assert.equal(swarm.available(), true, 'that was no fault of the daemon');
});

test('nothing of gRPC is loaded while there is no dfdaemon', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-df-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const sources = new URL('../../src/sources/dragonfly', import.meta.url).pathname;
  // A process of its own: this one has loaded all of it.
  const script = `
    import Module from 'node:module';
    import { createServer } from 'node:net';
    import { setTimeout as sleep } from 'node:timers/promises';
    import { byGrpc } from '${sources}/by-grpc.ts';
    import { createDragonfly } from '${sources}/dragonfly.ts';
    const log = { debug() {}, info() {}, warn() {} };
    const way = byGrpc('unix://${join(directory, 'sock')}', true, log);
    const swarm = await createDragonfly(way, { priority: 6, digestIds: true }, log);
    const loaded = () => Object.keys(Module._cache).some((path) => path.includes('/@grpc/'));
    swarm.available();
    await sleep(50);
    const before = loaded();
    const server = createServer().listen('${join(directory, 'sock')}');
    await way.look();
    for (let i = 0; i < 200 && !loaded(); i++) await sleep(20);
    console.log(before, loaded());
    process.exit();
  `;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script],
    { encoding: 'utf8' },
  );
  assert.equal(stdout.trim(), 'false true', stderr);
});
