import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { byProxy } from '../../src/sources/dragonfly/by-proxy.ts';
import { createDragonfly } from '../../src/sources/dragonfly/dragonfly.ts';
import type { Swarm, SwarmObject } from '../../src/sources/swarm.ts';
import { swarmObject } from '../dfdaemon/object.ts';
import { type DfdaemonProxy, startDfdaemonProxy } from '../dfdaemon/proxy.ts';
import { known } from '../source-suite.ts';

const never = new AbortController().signal;

interface Stage {
  proxy: DfdaemonProxy;
  swarm: Swarm;
  bytes: Buffer;
  object: SwarmObject & { refusals: boolean[] };
}

async function stage(t: TestContext): Promise<Stage> {
  const proxy = await startDfdaemonProxy();
  const { bytes, object } = swarmObject('https://r.example/v2/a/blobs/DIGEST?x=1', 3_500_000);
  proxy.objects.set(object.digest.slice(7), bytes);
  const task = { priority: 6, digestIds: true, tag: 'nymph', pieceLength: 4 << 20 };
  const swarm = await createDragonfly(byProxy(proxy.address, 'nymph/test'), task, { debug() {}, warn() {} });
  t.after(async () => {
    swarm.close();
    await proxy.close();
  });
  return { proxy, swarm, bytes, object };
}

async function whole(swarm: Swarm, object: SwarmObject): Promise<Buffer> {
  const { size, pieces } = await swarm.open(object, never);
  const bytes = Buffer.alloc(size);
  for await (const piece of pieces) {
    assert.equal(piece.from, 'unknown');
    bytes.set(piece.bytes!, piece.offset);
  }
  return bytes;
}

test('a whole object by the proxy, as from a mirror of its registry', async (t) => {
  const { swarm, object, bytes, proxy } = await stage(t);
  assert.equal(swarm.available(), true);
  assert.equal(await swarm.look(object), undefined, 'it cannot tell');
  assert.ok((await whole(swarm, object)).equals(bytes));
  const [{ url, headers }] = proxy.asked;
  assert.equal(url, `/v2/a/blobs/${object.digest}?x=1`);
  assert.equal(headers['x-dragonfly-registry'], 'https://r.example');
  assert.equal(headers['x-dragonfly-tag'], 'nymph');
  assert.equal(headers['x-dragonfly-priority'], '6');
  assert.equal(headers['x-dragonfly-enable-task-id-based-blob-digest'], 'true');
  assert.match(String(headers['x-dragonfly-filtered-query-params']), /^X-Amz-Algorithm,.*,ns$/);
  assert.equal(headers.authorization, 'Bearer old');
  assert.equal(headers['accept-encoding'], 'identity');
  assert.equal(headers.range, undefined);
});

for (const [name, error, expected, rests] of [
  [
    'an origin that is busy',
    { status: 503, by: 'backend', header: { 'Retry-After': '2' } },
    { retryable: true, retryAfter: 2000 },
    false,
  ],
  ['an origin that has nothing', { status: 404, by: 'backend' }, { retryable: false }, false],
  ['the daemon itself', { status: 500, by: 'dfdaemon' }, { retryable: true }, false],
  ['too many requests', { status: 429, by: 'proxy' }, { retryable: true }, true],
  ['a block list', { status: 403, by: 'proxy' }, { retryable: true }, true],
  ['a server that is no dfdaemon', { status: 400 }, { retryable: true }, true],
] as const)
  test(`the proxy refuses: ${name}`, async (t) => {
    const { swarm, object, proxy } = await stage(t);
    proxy.faults.error = error;
    await assert.rejects(swarm.open(object, never), known({ code: 'source', ...expected }));
    assert.equal(swarm.available(), !rests);
  });

test('a login that the origin refuses is renewed once', async (t) => {
  const { swarm, object, bytes, proxy } = await stage(t);
  proxy.faults.error = { status: 401, by: 'backend', times: 1 };
  assert.ok((await whole(swarm, object)).equals(bytes));
  assert.deepEqual(object.refusals, [false, true]);
  proxy.faults.error = { status: 401, by: 'backend' };
  await assert.rejects(swarm.open(object, never), known({ code: 'denied', retryable: false }));
});

test('a body that is cut, and a proxy that goes away', async (t) => {
  const { swarm, object, bytes, proxy } = await stage(t);
  proxy.faults.cut = { after: 2_000_000, times: 1 };
  await assert.rejects(whole(swarm, object), known({ code: 'source', retryable: true }));
  assert.equal(swarm.available(), false, 'it rests');
  assert.ok((await whole(swarm, object)).equals(bytes));
  assert.equal(swarm.available(), true);
  await proxy.close();
  await assert.rejects(swarm.open(object, never), known({ code: 'source', retryable: true }));
  assert.equal(swarm.available(), false);
});

test('an aborted signal ends a stream', async (t) => {
  const { swarm, object, proxy } = await stage(t);
  proxy.faults.stall = {};
  const abort = new AbortController();
  const opening = swarm.open(object, abort.signal);
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(opening, known({ code: 'cancelled' }));
  assert.equal(swarm.available(), true);
});
