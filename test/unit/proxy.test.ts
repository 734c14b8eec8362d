import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type ProxyOptions, spawnProxy, startProxy } from '../../bench/proxy.ts';
import { noiseBytes } from '../tree.ts';

async function serve(t: TestContext, handle: (socket: Socket) => void): Promise<{ host: string; port: number }> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    handle(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

async function proxyTo(t: TestContext, options: ProxyOptions): ReturnType<typeof startProxy> {
  const proxy = await startProxy(options);
  t.after(() => proxy.close());
  return proxy;
}

async function readAll(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of socket) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

test('a request costs two round trips on a new connection and one on a warm one', async (t) => {
  const to = await serve(t, (socket) => socket.on('data', (data) => socket.write(data)));
  const { host, port } = await proxyTo(t, { to, rtt: 40 });
  const start = performance.now();
  const socket = connect(port, host);
  socket.write('a');
  await once(socket, 'data');
  const cold = performance.now() - start;
  const again = performance.now();
  socket.write('b');
  await once(socket, 'data');
  const warm = performance.now() - again;
  socket.destroy();
  assert.ok(cold >= 78, `first answer after ${cold} ms`);
  assert.ok(warm >= 38, `second answer after ${warm} ms`);
});

test('all connections together stay below the rate, and every byte arrives in order', async (t) => {
  const SIZE = 500_000;
  const content = noiseBytes(SIZE, 5);
  const to = await serve(t, (socket) => socket.end(content));
  const { host, port, stats } = await proxyTo(t, { to, rate: 40e6 });
  const start = performance.now();
  const answers = await Promise.all(Array.from({ length: 4 }, () => readAll(connect({ port, host }))));
  const elapsed = performance.now() - start;
  for (const answer of answers) assert.ok(answer.equals(content));
  const least = (4 * SIZE * 8 * 1000) / 40e6;
  assert.ok(elapsed >= least - 2, `${elapsed} ms, the rate allows ${least}`);
  assert.deepEqual({ ...stats(), open: 0 }, { up: 0, down: 4 * SIZE, connections: 4, open: 0 });
});

test('the end of one direction leaves the other open', async (t) => {
  const to = await serve(t, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (data) => hash.update(data));
    socket.on('end', () => socket.end(hash.digest('hex')));
  });
  const { host, port } = await proxyTo(t, { to, rtt: 5 });
  const content = noiseBytes(3_000_000, 6);
  const socket = connect({ port, host, allowHalfOpen: true });
  socket.end(content);
  const answer = await readAll(socket);
  assert.equal(answer.toString(), createHash('sha256').update(content).digest('hex'));
});

test('a reader that stops is not read ahead of without bound', async (t) => {
  let sent = 0;
  const to = await serve(t, (socket) => {
    const piece = Buffer.alloc(65536);
    const push = (): void => {
      do sent += piece.length;
      while (socket.write(piece));
    };
    socket.on('drain', push);
    push();
  });
  const { host, port } = await proxyTo(t, { to });
  const socket = connect({ port, host });
  await once(socket, 'data');
  socket.pause();
  let before = -1;
  while (before !== sent) {
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  socket.destroy();
  // The proxy's window, and what kernel buffers take on four sockets.
  assert.ok(sent < 80 << 20, `${sent} bytes went into a stopped connection`);
});

test('an absent target ends the connection', async (t) => {
  const { host, port } = await proxyTo(t, { to: { host: '127.0.0.1', port: 1 } });
  const socket = connect({ port, host });
  await assert.rejects(readAll(socket), { code: 'ECONNRESET' });
});

test('as a process of its own it counts and ends', async (t) => {
  const to = await serve(t, (socket) => socket.end('hello'));
  const proxy = await spawnProxy({ to, rtt: 2, rate: 1e9 });
  t.after(() => proxy.close());
  assert.equal((await readAll(connect({ port: proxy.port, host: proxy.host }))).toString(), 'hello');
  const { up, down, connections } = await proxy.stats();
  assert.deepEqual({ up, down, connections }, { up: 0, down: 5, connections: 1 });
  await proxy.close();
  await assert.rejects(readAll(connect({ port: proxy.port, host: proxy.host })), { code: 'ECONNREFUSED' });
  await assert.rejects(startProxy({ to, rate: 0 }), RangeError);
});
