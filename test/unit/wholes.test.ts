/** Checks of whole files whose chunks have no digests. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { ftruncateSync, mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openCache } from '../../src/cache/open.ts';
import { setReady } from '../../src/cache/ready-map.ts';
import { crc32c } from '../../src/codec/crc32c.ts';
import { blobOf } from '../../src/formats/files/blob.ts';
import { seekableTar } from '../../src/formats/tar/bytes.ts';
import { indexDigest } from '../../src/formats/tar/index-digest.ts';
import { tarMembers } from '../../src/formats/tar/members.ts';
import type { Driver, RegisteredFile } from '../../src/fuse/driver.ts';
import { objectOf } from '../../src/image/files.ts';
import { createServedBlobs } from '../../src/mount/served.ts';
import { createWholeChecks } from '../../src/mount/whole-checks.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import type { Source } from '../../src/sources/source.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, scriptedSource } from '../blob.ts';
import { tarMember } from '../tar.ts';
import { until } from './cache-kit.ts';

const CONTENT = randomBytes((5 << 20) + 3);

/** A file that is complete or empty, and a driver that waits before it forgets something. */
async function stage(t: TestContext, isComplete: boolean, content = CONTENT) {
  const root = mkdtempSync(join(tmpdir(), 'nymph-wholes-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const pool = createThreadPool(1);
  t.after(() => pool.close());
  const hex = sha256Digest(content).slice('sha256:'.length);
  const cache = await openCache(root);
  t.after(() => cache.close());
  const open = () =>
    cache.open(blobOf(objectOf({ size: content.length, whole: { algorithm: 'sha256', hex }, place: 'a' })));
  const cached = await open();
  if (isComplete) {
    writeSync(cached.fd, content, 0, content.length, 0);
    setReady(cached.ready, 0, content.length);
  }
  const shown: RegisteredFile[] = [];
  const waits: Promise<unknown>[] = [];
  const driver = {
    register: (file: RegisteredFile) => shown.push(file),
    unregister: async () => void (await waits.shift()),
  } as unknown as Driver;
  const blobs = createServedBlobs(cache, driver, fetchContext(pool, {}));
  return { cached, open, blobs, shown, waits, source: scriptedSource(content) };
}

test('two who verify a file at the same time both hear of it', async (t) => {
  const { cached, blobs, source } = await stage(t, true);
  const served = await blobs.serve(cached, source);
  const signal = AbortSignal.timeout(20_000);
  const found = await Promise.all([blobs.recheck(served, signal), blobs.recheck(served, signal)]);
  assert.deepEqual(found, ['right', 'right']);
  await blobs.release(served);
});

test('a strict mount that begins while the last other one ends reads the file', async (t) => {
  const { cached, open, blobs, waits, source } = await stage(t, false);
  const other = await blobs.serve(cached, source);
  const { promise, resolve } = Promise.withResolvers<void>();
  waits.push(promise);
  const serving = blobs.serve(await open(), source, true);
  await blobs.release(other);
  resolve();
  const served = await serving;
  const [bytes] = await blobs.read(served, 4096, 10, AbortSignal.timeout(20_000));
  assert.deepEqual(Buffer.from(bytes), CONTENT.subarray(4096, 4106));
  await blobs.release(served);
});

test('a file that is found right while a strict mount begins is shown once, as it is', async (t) => {
  const { cached, blobs, shown, waits, source } = await stage(t, true);
  const { promise, resolve } = Promise.withResolvers<void>();
  waits.push(promise);
  const serving = blobs.serve(cached, source, true);
  await until(() => cached.standing === 'right');
  await until(() => shown.length === 2);
  resolve();
  const served = await serving;
  assert.equal(shown.at(-1)!.ready, cached.ready);
  await blobs.release(served);
});

test('strict readers of one file fill it together', async (t) => {
  const { cached, blobs, source } = await stage(t, false);
  const served = await blobs.serve(cached, source, true);
  const { fill } = served.fetcher;
  let fills = 0;
  served.fetcher.fill = (...range) => {
    fills++;
    return fill(...range);
  };
  const signal = AbortSignal.timeout(20_000);
  const reads = Array.from({ length: 8 }, (_, i) => blobs.read(served, i << 19, 10, signal));
  for (const [i, [bytes]] of (await Promise.all(reads)).entries())
    assert.deepEqual(Buffer.from(bytes), CONTENT.subarray(i << 19, (i << 19) + 10));
  assert.equal(fills, 1);
  await blobs.release(served);
});

test('a strict reader that goes away leaves the others their file', async (t) => {
  const { cached, blobs, source } = await stage(t, false);
  const served = await blobs.serve(cached, source, true);
  const impatient = new AbortController();
  const gone = assert.rejects(blobs.read(served, 0, 10, impatient.signal), { code: 'cancelled' });
  const stays = blobs.read(served, 0, 10, AbortSignal.timeout(20_000));
  impatient.abort();
  await gone;
  assert.deepEqual(Buffer.from((await stays)[0]), CONTENT.subarray(0, 10));
  await blobs.release(served);
});

test('a file that could not be checked says what to do, and is checked again when it is next read', async (t) => {
  const { cached, blobs, source } = await stage(t, true);
  ftruncateSync(cached.fd, 4096);
  const served = await blobs.serve(cached, source, true);
  const signal = AbortSignal.timeout(20_000);
  await assert.rejects(blobs.read(served, 0, 10, signal), { code: 'cache', hint: /nymph verify/ });
  writeSync(cached.fd, CONTENT, 0, CONTENT.length, 0);
  const read = () => blobs.read(served, 0, 10, signal).catch(() => undefined);
  let found = await read();
  while (found === undefined) {
    await sleep(50, undefined, { signal });
    found = await read();
  }
  assert.deepEqual(Buffer.from(found[0]), CONTENT.subarray(0, 10));
  assert.equal(cached.standing, 'right');
  await blobs.release(served);
});

for (const [deaths, expected] of [
  [1, sha256Digest(CONTENT).slice('sha256:'.length)],
  [3, undefined],
] as const)
  test(`the thread that checks dies ${deaths} times with a file: it is ${expected ? 'checked by the next' : 'given up'}`, async (t) => {
    const { cached } = await stage(t, true);
    const { words, blocks } = cached.ready;
    const whole = words.buffer;
    let left = deaths;
    // What a thread cannot read as a map ends it.
    Object.defineProperty(words, 'buffer', { get: () => (left-- > 0 ? new SharedArrayBuffer(4) : whole) });
    const found = Promise.withResolvers<string | undefined>();
    const checks = createWholeChecks({
      checked: (_, hex) => found.resolve(hex),
      piecesOf: () => undefined,
      wrongPiece: () => {},
      log: () => {},
    });
    checks.follow({ ...cached, ready: { words, blocks } });
    assert.equal(await found.promise, expected);
    await checks.leave(cached);
  });

for (const times of [1, 2])
  test(`a piece that comes wrong ${times === 1 ? 'once is fetched again' : 'twice is left to the digest of the whole'}`, async (t) => {
    const { cached, blobs } = await stage(t, false);
    const pieces = [0, 2 << 20, 4 << 20].map((offset) => {
      const bytes = CONTENT.subarray(offset, offset + (2 << 20));
      return { offset, size: bytes.length, crc: crc32c(bytes) };
    });
    let wrong = times;
    const source: Source = {
      name: 'once wrong',
      async read(offset, length) {
        const bytes = Buffer.from(CONTENT.subarray(offset, offset + length));
        if (offset <= 3 << 20 && offset + length > 3 << 20 && wrong-- > 0) bytes[(3 << 20) - offset] ^= 1;
        return (async function* () {
          yield bytes;
        })();
      },
    };
    const signal = AbortSignal.timeout(60_000);
    const served = await blobs.serve(cached, source, false, pieces);
    await served.fetcher.fill(0, CONTENT.length, signal);
    if (times === 1) {
      await blobs.checked(served, signal);
      assert.equal(cached.standing, 'right');
      const [bytes] = await blobs.read(served, 3 << 20, 1, signal);
      assert.equal(bytes[0], CONTENT[3 << 20]);
    } else await assert.rejects(blobs.checked(served, signal), { code: 'corrupt' });
    assert.equal(wrong, times === 1 ? -1 : 0);
    await blobs.release(served);
  });

for (const honest of [true, false])
  test(`a tar whose headers were ${honest ? 'the same' : 'others'} when they were believed ${honest ? 'stays' : 'counts as wrong'} when it is complete`, async (t) => {
    const tar = (name: string) => Buffer.concat([tarMember(name, CONTENT), Buffer.alloc(1024)]);
    const { cached, blobs, source } = await stage(t, false, tar('a'));
    const said = await tarMembers(
      seekableTar(async (at, length) => tar(honest ? 'a' : 'b').subarray(at, at + length), tar('a').length),
      'a tar',
    );
    const signal = AbortSignal.timeout(60_000);
    const served = await blobs.serve(cached, source);
    const confirmed = blobs.confirm(served, indexDigest(said), signal);
    await served.fetcher.fill(0, cached.size, signal);
    await confirmed;
    assert.equal(cached.standing, honest ? 'right' : 'wrong');
    if (honest) assert.equal((await blobs.read(served, 512, 10, signal)).length, 1);
    else await assert.rejects(blobs.read(served, 512, 10, signal), { code: 'corrupt' });
    await blobs.release(served);
  });
