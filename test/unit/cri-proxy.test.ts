import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, type ServerUnaryCall, type ServerWritableStream, type sendUnaryData, status } from '@grpc/grpc-js';
import { serveImageService } from '../../src/cri/proxy.ts';
import { type CapturedCredentials, createCaptured } from '../../src/sources/registry/captured.ts';
import type { Credential } from '../../src/sources/registry/credential.ts';
import { PULL_IMAGE, pullRequest, type RawClient, rawClient, serveRaw, type TestAuth } from '../cri.ts';

type Call = ServerUnaryCall<Buffer, Buffer>;
type Done = sendUnaryData<Buffer>;

let directory: string;
let count = 0;
const closers: (() => unknown)[] = [];
before(async () => {
  directory = await mkdtemp('/tmp/nymph-cri-');
});
after(() => rm(directory, { recursive: true, force: true }));
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Bench {
  client: RawClient;
  captured: CapturedCredentials;
  address: string;
  containerd: string;
  log: string[];
  find(host: string, repository: string): Promise<Credential[]>;
}

async function bench(handlers?: Parameters<typeof serveRaw>[1]): Promise<Bench> {
  const [address, containerd] = [join(directory, `${count}.sock`), join(directory, `${count++}-c.sock`)];
  const captured = createCaptured(undefined, assert.fail);
  const log: string[] = [];
  const note = (fields: object, message: string) => void log.push(`${message} ${JSON.stringify(fields)}`);
  if (handlers) {
    const server = await serveRaw(containerd, handlers);
    closers.push(() => server.forceShutdown());
  }
  const proxy = await serveImageService({ address, containerd, captured, log: { debug: note, warn: note } });
  closers.push(() => proxy.close());
  const client = rawClient(address);
  closers.push(() => client.close());
  const find = async (host: string, repository: string) =>
    (await captured.find(host, repository, [])).map(({ credential }) => credential);
  return { client, captured, address, containerd, log, find };
}

const echo = (call: Call, done: Done) => done(null, call.request);
const basic = (username: string, password: string): Credential => ({ kind: 'basic', username, password });

test('a call passes as it is: bytes, metadata, trailers, methods that nobody here knows', async () => {
  const { client, address } = await bench({
    '/some.v9.Service/Method': (call: Call, done: Done) => {
      const headers = new Metadata();
      headers.set('x-seen', String(call.metadata.get('x-asked')));
      call.sendMetadata(headers);
      const trailers = new Metadata();
      trailers.set('x-data-bin', Buffer.from([0, 1, 255]));
      done(null, call.request, trailers);
    },
  });
  assert.equal((await stat(address)).mode & 0o777, 0o600);
  for (const size of [0, 1, 1000, 100_000, 20_000_000]) {
    const body = randomBytes(size);
    const answer = await client.call('/some.v9.Service/Method', body, { metadata: { 'x-asked': 'a, b' } });
    assert.equal(answer.error, undefined);
    assert.ok(answer.body!.equals(body), `${size} bytes`);
    assert.deepEqual(answer.headers!.get('x-seen'), ['a, b']);
    assert.deepEqual(answer.trailers!.get('x-data-bin'), [Buffer.from([0, 1, 255])]);
  }
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, i) => client.call('/some.v9.Service/Method', Buffer.from(`${i}`))),
  );
  assert.deepEqual(
    answers.map(({ body }) => String(body)),
    Array.from({ length: 100 }, (_, i) => `${i}`),
  );
});

test('streams of answers pass, and errors with their details', async () => {
  const { client } = await bench({
    '/runtime.v1.ImageService/StreamImages*': (call: ServerWritableStream<Buffer, Buffer>) => {
      for (let i = 0; i < 500; i++) call.write(Buffer.alloc(10_000, i % 251));
      if (call.request.length === 0) return call.end();
      call.emit('error', { code: status.DATA_LOSS, details: 'half of it' });
    },
    '/runtime.v1.ImageService/ImageStatus': (_call: Call, done: Done) => {
      const metadata = new Metadata();
      metadata.set('grpc-status-details-bin', Buffer.from('details'));
      done({ code: status.NOT_FOUND, details: 'no such image: ü', metadata });
    },
  });
  const whole = await client.stream('/runtime.v1.ImageService/StreamImages', Buffer.alloc(0));
  assert.equal(whole.error, undefined);
  assert.equal(whole.bodies.length, 500);
  assert.ok(whole.bodies.every((body, i) => body.equals(Buffer.alloc(10_000, i % 251))));
  const half = await client.stream('/runtime.v1.ImageService/StreamImages', Buffer.from('x'));
  assert.equal(half.error?.code, status.DATA_LOSS);
  const { error } = await client.call('/runtime.v1.ImageService/ImageStatus', Buffer.alloc(0));
  assert.equal(error?.code, status.NOT_FOUND);
  assert.equal(error?.details, 'no such image: ü');
  assert.deepEqual(error?.metadata.get('grpc-status-details-bin'), [Buffer.from('details')]);
  const unknown = await client.call('/runtime.v1.ImageService/Nothing', Buffer.alloc(0));
  assert.equal(unknown.error?.code, status.UNIMPLEMENTED);
});

test('a deadline reaches containerd, and so does a cancellation', async () => {
  const events: string[] = [];
  const { client } = await bench({
    '/s/Wait': (call: Call) => {
      const deadline = call.getDeadline();
      events.push(deadline === Number.POSITIVE_INFINITY ? 'no deadline' : 'deadline');
      call.on('cancelled', () => events.push('cancelled'));
    },
  });
  const late = await client.call('/s/Wait', Buffer.alloc(0), { deadline: 300 });
  assert.equal(late.error?.code, status.DEADLINE_EXCEEDED);
  const cancel = new AbortController();
  const waiting = client.call('/s/Wait', Buffer.alloc(0), { signal: cancel.signal });
  while (!events.includes('no deadline')) await sleep(10);
  cancel.abort();
  assert.equal((await waiting).error?.code, status.CANCELLED);
  while (events.filter((event) => event === 'cancelled').length < 2) await sleep(10);
  assert.equal(events[0], 'deadline');
});

test('without containerd the answer is UNAVAILABLE; once it is there, calls pass; and again after it was started anew', async () => {
  const { client, containerd } = await bench();
  const absent = await client.call('/s/Echo', Buffer.from('x'));
  assert.equal(absent.error?.code, status.UNAVAILABLE);
  assert.match(absent.error!.details, /containerd cannot be reached: ENOENT/);
  for (let round = 0; round < 3; round++) {
    const server = await serveRaw(containerd, { '/s/Echo': echo, '/s/Hang': () => undefined });
    assert.equal(String((await client.call('/s/Echo', Buffer.from('x'))).body), 'x');
    const hanging = client.call('/s/Hang', Buffer.alloc(0));
    await client.call('/s/Echo', Buffer.from('x'));
    server.forceShutdown();
    const cut = await hanging;
    assert.ok([status.UNAVAILABLE, status.CANCELLED].includes(cut.error!.code), `${cut.error}`);
    await rm(containerd, { force: true });
  }
});

test('the login of a pull is there while the pull goes on, and stays if it succeeds', async () => {
  let during: Credential[] = [];
  let fail = false;
  const requests: Buffer[] = [];
  const { client, find, log } = await bench({
    [PULL_IMAGE]: async (call: Call, done: Done) => {
      requests.push(call.request);
      during = await find('r.io:5000', 'team/app');
      if (fail) done({ code: status.UNKNOWN, details: 'pull failed' });
      else done(null, Buffer.from('answer'));
    },
  });
  const pull = (auth?: TestAuth, image = 'r.io:5000/team/app:v1') => {
    fail = false;
    return client.call(PULL_IMAGE, pullRequest(image, auth));
  };
  const request = pullRequest('r.io:5000/team/app:v1', { username: 'me', password: 'hunter2' });
  const answer = await client.call(PULL_IMAGE, request);
  assert.equal(String(answer.body), 'answer');
  assert.ok(requests[0].equals(request), 'fields that nymph does not know pass too');
  assert.deepEqual(during, [basic('me', 'hunter2')]);
  assert.deepEqual(await find('r.io:5000', 'team/app'), [basic('me', 'hunter2')]);

  fail = true;
  const failed = await client.call(
    PULL_IMAGE,
    pullRequest('r.io:5000/team/app:v1', { username: 'me', password: 'wrong-hunter2' }),
  );
  assert.equal(failed.error?.code, status.UNKNOWN);
  assert.deepEqual(during, [basic('me', 'wrong-hunter2'), basic('me', 'hunter2')]);
  assert.deepEqual(await find('r.io:5000', 'team/app'), [basic('me', 'hunter2')]);

  await pull();
  await pull({}, 'r.io/none');
  assert.deepEqual(await find('r.io', 'none'), []);
  await pull({ auth: Buffer.from('a:b:c\0').toString('base64') }, 'r.io/auth@sha256:'.padEnd(81, '0'));
  assert.deepEqual(await find('r.io', 'auth'), [basic('a', 'b:c')]);
  await pull({ identity_token: 'refresh-hunter2' }, 'r.io/identity');
  assert.deepEqual(await find('r.io', 'identity'), [{ kind: 'identity', token: 'refresh-hunter2' }]);
  await pull({ registry_token: 'bearer-hunter2' }, 'r.io/bearer');
  assert.deepEqual(await find('r.io', 'bearer'), [{ kind: 'bearer', token: 'bearer-hunter2' }]);
  await pull({ username: 'u', password: 'p', server_address: 'https://index.docker.io/v1/' }, 'busybox');
  assert.deepEqual(await find('registry-1.docker.io', 'library/busybox'), [basic('u', 'p')]);
  await pull({ username: 'u', password: 'p', server_address: 'other.io' }, 'r.io/foreign');
  assert.deepEqual(await find('r.io', 'foreign'), [], 'a login for another host is not sent to this one');
  const odd = await client.call(PULL_IMAGE, Buffer.from('\xff\xff hunter2', 'latin1'));
  assert.equal(odd.error, undefined, 'what nymph cannot read is for containerd to judge');
  await pull({ username: 'u', password: 'hunter2' }, 'NO VALID NAME hunter2');
  assert.doesNotMatch(log.join(), /hunter2/);
  assert.match(log.join(), /cannot be read/);
});

test('clients that speak no HTTP/2, or hang up, do no harm', async () => {
  const { client, address } = await bench({ '/s/Echo': echo });
  for (const text of [
    '',
    'GET / HTTP/1.1\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff',
  ]) {
    const socket = connect(address);
    socket.on('error', () => {});
    socket.resume();
    socket.end(text, 'latin1');
    await new Promise((resolve) => socket.on('close', resolve));
  }
  assert.equal(String((await client.call('/s/Echo', Buffer.from('x'))).body), 'x');
});
