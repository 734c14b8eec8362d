import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseRetryAfter } from '../../src/sources/http/errors.ts';
import type { Timeouts } from '../../src/sources/http/request.ts';
import { openRepository } from '../../src/sources/open.ts';
import type { Repository, Source } from '../../src/sources/source.ts';
import { fullPort } from '../full-port.ts';
import type { BlobFault, Faults } from '../registry/faults.ts';
import { type MadeLayout, makeLayout } from '../registry/layout.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { collect, known } from '../source-suite.ts';

const SIZE = 12 * 1024 * 1024;
const never = new AbortController().signal;
let directory: string;
let layout: MadeLayout;
let server: TestRegistry;
let repository: Repository;
let source: Source;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-faults-'));
  layout = await makeLayout(join(directory, 'layout'), [SIZE]);
});
after(() => rm(directory, { recursive: true, force: true }));
afterEach(async () => {
  await repository.close();
  await server.close();
});

async function start(faults: Faults, timeouts: Partial<Timeouts> = {}): Promise<void> {
  server = await startRegistry({ layouts: { app: layout.path }, faults });
  repository = openRepository(`${server.host}/app`, { configDirs: [], credentials: join(directory, 'none'), timeouts });
  source = repository.open({ ...layout.blobs[0], size: SIZE });
}

async function isRight(offset: number, length: number, signal = never): Promise<void> {
  const bytes = await collect(await source.read(offset, length, signal));
  assert.ok(bytes.equals(layout.blobs[0].bytes.subarray(offset, offset + length)));
}

/** A range may fail, but bytes that come must be the right ones, and what comes before an error counts. */
async function bytesBeforeError(offset: number, length: number): Promise<{ got: number; error: unknown }> {
  let got = 0;
  try {
    for await (const chunk of await source.read(offset, length, never)) {
      const right = layout.blobs[0].bytes.subarray(offset + got, offset + got + chunk.length);
      assert.ok(Buffer.from(chunk).equals(right), 'wrong bytes came through');
      got += chunk.length;
    }
  } catch (error) {
    return { got, error };
  }
  return { got, error: undefined };
}

async function eventually(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (condition()) return;
    await sleep(5);
  }
  assert.fail(what);
}

test('a wrong range, a short one, one too long or an encoded one is a retryable error, and the next read is right', async () => {
  const cases: [BlobFault, RegExp][] = [
    [{ kind: 'other-range' }, /bytes 999–1998 instead of 1000–1999/],
    [{ kind: 'no-content-range' }, /Content-Range/],
    [{ kind: 'short', by: 1 }, /999 bytes instead of 1000/],
    [{ kind: 'short', by: 1000 }, /0 bytes instead of 1000/],
    [{ kind: 'extra', by: 1 }, /too many bytes/],
    [{ kind: 'extra', by: 100_000 }, /too many bytes/],
    [{ kind: 'cut', after: 0 }, /./],
    [{ kind: 'cut', after: 500 }, /./],
    [{ kind: 'hang-up' }, /closed|ECONNRESET/],
    [{ kind: 'gzip' }, /encoded \(gzip\)/],
  ];
  await start({});
  for (const [fault, message] of cases) {
    server.faults.blob = { ...fault, times: 1 };
    const { error } = await bytesBeforeError(1000, 1000);
    known({ code: 'source', retryable: true, message })(error);
    await isRight(1000, 1000);
  }
});

test('a cut in the middle: what came before it counts', async () => {
  await start({ blob: { kind: 'cut', after: 300_000 } });
  const { got, error } = await bytesBeforeError(1000, 1_000_000);
  known({ code: 'source', retryable: true })(error);
  assert.ok(got > 0 && got <= 300_000, `${got} bytes`);
});

test('wrong bytes are not noticed by `read`: who fetches verifies', async () => {
  await start({ blob: { kind: 'bit-flip' } });
  const bytes = await collect(await source.read(0, 1000, never));
  const right = layout.blobs[0].bytes.subarray(0, 1000);
  assert.equal(bytes.filter((byte, i) => byte !== right[i]).length, 1);
});

test('`get` notices wrong bytes, and reads again', async () => {
  await start({ blob: { kind: 'bit-flip', times: 1 } });
  const { digest, bytes } = layout.blobs[0];
  assert.deepEqual(Buffer.from(await repository.get({ digest, size: SIZE }, SIZE, never)), bytes);
  assert.equal(server.stats.blobs, 2);
  server.faults.blob = { kind: 'bit-flip' };
  await assert.rejects(repository.get({ digest, size: SIZE }, SIZE, never), known({ code: 'corrupt' }));
});

test('a server without ranges: borne with near the start, refused far inside without reading the object', async () => {
  await start({ blob: { kind: 'no-ranges' } });
  await isRight(0, SIZE);
  await isRight(0, 1000);
  await isRight(70_000, 100_000);
  await isRight(8 * 1024 * 1024, 1000);
  const { blobs } = server.stats;
  const far = () => source.read(8 * 1024 * 1024 + 1, 1000, never);
  const refusal = known({ code: 'unsupported', retryable: false, hint: /range requests/ });
  await assert.rejects(far(), refusal);
  await assert.rejects(far(), refusal);
  assert.equal(server.stats.blobs, blobs, 'it is known by now: nothing is asked');
  await eventually('no body is sent in vain', () => server.stats.sending === 0);
});

test('a server without ranges that is new to us is found out with one request', async () => {
  await start({ blob: { kind: 'no-ranges' } });
  await assert.rejects(source.read(SIZE - 10, 10, never), known({ code: 'unsupported' }));
  await eventually('the body is not read', () => server.stats.sending === 0);
  assert.ok(server.stats.blobBytes < SIZE, `${server.stats.blobBytes} bytes were sent`);
});

test('statuses: which are retryable, and how long to wait', async () => {
  await start({});
  const cases: [number, { code: string; retryable: boolean; retryAfter?: number }, string?][] = [
    [400, { code: 'source', retryable: false }],
    [403, { code: 'denied', retryable: false }],
    [404, { code: 'not-found', retryable: false }],
    [405, { code: 'source', retryable: false }],
    [408, { code: 'source', retryable: true }],
    [416, { code: 'source', retryable: false }],
    [429, { code: 'source', retryable: true, retryAfter: 7000 }, '7'],
    [500, { code: 'source', retryable: true, retryAfter: undefined }, 'soon'],
    [503, { code: 'source', retryable: true, retryAfter: 0 }, 'Thu, 01 Jan 2015 00:00:00 GMT'],
  ];
  for (const [code, expected, retryAfter] of cases) {
    server.faults.status = { on: 'blob', code, ...(retryAfter === undefined ? {} : { retryAfter }) };
    await assert.rejects(source.read(0, 10, never), known(expected), String(code));
  }
});

test('Retry-After: seconds, dates, nonsense', () => {
  const now = Date.parse('2025-06-01T12:00:00Z');
  const cases: [string | undefined, number | undefined][] = [
    [undefined, undefined],
    ['0', 0],
    [' 120 ', 120_000],
    ['999999999', 3_600_000],
    ['Sun, 01 Jun 2025 12:00:30 GMT', 30_000],
    ['Sun, 01 Jun 2025 11:00:00 GMT', 0],
    ['-5', undefined],
    ['1.5', undefined],
    ['soon', undefined],
    ['', undefined],
  ];
  for (const [value, expected] of cases) assert.equal(parseRetryAfter(value, now), expected, String(value));
});

test('slow headers and stalled bodies end in time', async () => {
  await start({ latency: 60_000 }, { header: 300, body: 300 });
  const started = performance.now();
  await assert.rejects(
    source.read(0, 10, never),
    known({ code: 'timeout', retryable: true, message: /no answer in time/ }),
  );
  delete server.faults.latency;
  server.faults.blob = { kind: 'stall', after: 1000 };
  const { got, error } = await bytesBeforeError(0, 5000);
  known({ code: 'timeout', retryable: true, message: /stalled/ })(error);
  assert.equal(got, 1000);
  assert.ok(performance.now() - started < 20_000, `${performance.now() - started} ms`);
});

test('a reader that is slow itself is not a stall', async () => {
  await start({}, { body: 300 });
  let got = 0;
  for await (const chunk of await source.read(0, 4_000_000, never)) {
    if (got === 0) await sleep(1500);
    got += chunk.length;
  }
  assert.equal(got, 4_000_000);
});

test('a reader that is slow stops the sender: memory is bounded', async () => {
  await start({});
  const stream = (await source.read(0, SIZE, never))[Symbol.asyncIterator]();
  await stream.next();
  await sleep(200);
  assert.ok(server.stats.blobBytes < SIZE, `${server.stats.blobBytes} bytes were sent to a reader of one piece`);
  await stream.return?.();
  await eventually('the connection is closed', () => server.stats.openConnections === 0);
});

test('an abort frees the connection: before the answer, while a body stalls, and while requests queue', async () => {
  await start({ latency: 60_000 });
  const controller = new AbortController();
  const reads = Array.from({ length: 40 }, () => source.read(0, 10, controller.signal));
  await eventually('requests arrive', () => server.stats.requests === 16);
  controller.abort();
  for (const read of reads) await assert.rejects(read, known({ code: 'cancelled' }));
  await eventually('connections close', () => server.stats.openConnections === 0);
  delete server.faults.latency;

  server.faults.blob = { kind: 'stall', after: 100 };
  const second = new AbortController();
  const stream = (await source.read(0, 1000, second.signal))[Symbol.asyncIterator]();
  await stream.next();
  const waiting = stream.next();
  second.abort();
  await assert.rejects(waiting, known({ code: 'cancelled' }));
  await eventually('the stalled connection closes', () => server.stats.openConnections === 0);
  delete server.faults.blob;
  await isRight(5, 1000);
});

test('an abort while waiting for a token, and between attempts', async () => {
  await start({ auth: { kind: 'token' }, latency: 300 });
  await assert.rejects(source.read(0, 10, AbortSignal.timeout(450)), known({ code: 'cancelled' }));
  delete server.faults.latency;
  await isRight(0, 10);
  server.faults.status = { code: 503, retryAfter: '5' };
  const started = performance.now();
  await assert.rejects(repository.resolve(AbortSignal.timeout(100)), known({ code: 'cancelled' }));
  assert.ok(performance.now() - started < 4_500);
});

test('readers who share a token do not end each other', async () => {
  await start({ auth: { kind: 'token' }, latency: 100 });
  const impatient = source.read(0, 10, AbortSignal.timeout(150));
  const patient = isRight(0, 10);
  await assert.rejects(impatient, known({ code: 'cancelled' }));
  await patient;
  assert.equal(server.stats.tokens, 1);
});

test('object storage that fails is asked for again through the registry', async () => {
  await start({ redirect: {} });
  await isRight(0, 10);
  await isRight(10, 10);
  assert.deepEqual([server.stats.blobs, server.stats.storage], [1, 2]);
  server.faults.blob = { kind: 'hang-up', times: 1 };
  await isRight(20, 10);
  assert.deepEqual([server.stats.blobs, server.stats.storage], [2, 4]);
});

test('errors never show secrets: signed addresses, tokens', async () => {
  await start({ redirect: {}, blob: { kind: 'no-content-range' } });
  const { error } = await bytesBeforeError(0, 10);
  assert.doesNotMatch(JSON.stringify([String(error), (error as Error).cause ?? '']), /signature|nonce/);
});

test('a connection that is never made ends in time', async (t) => {
  await start({}, { connect: 300 });
  const host = `127.0.0.1:${await fullPort(t)}`;
  const nowhere = openRepository(`${host}/app`, {
    configDirs: [],
    plainHttp: [host],
    timeouts: { connect: 300 },
  });
  t.after(() => nowhere.close());
  const started = performance.now();
  await assert.rejects(nowhere.open(layout.blobs[0]).read(0, 1, never), known({ retryable: true }));
  assert.ok(performance.now() - started < 15_000);
});
