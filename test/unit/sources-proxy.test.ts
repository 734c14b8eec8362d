import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { DEFAULT_TIMEOUTS, readUpTo } from '../../src/sources/http/request.ts';
import { createTransport } from '../../src/sources/http/transport.ts';
import { refused } from '../refused.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../registry/certificate.ts';
import { type MadeLayout, makeLayout } from '../registry/layout.ts';
import { startRegistry } from '../registry/registry.ts';

let directory: string;
let layout: MadeLayout;
const never = new AbortController().signal;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-proxy-'));
  layout = await makeLayout(join(directory, 'layout'), [200_000]);
});
after(() => rm(directory, { recursive: true, force: true }));

/** A proxy that sends everything to one port of this machine, and keeps what it was asked. */
async function startProxy(port: number): Promise<{ server: Server; url: string; asked: string[] }> {
  const asked: string[] = [];
  const note = (kind: string, request: IncomingMessage) =>
    asked.push(`${kind} ${request.url} ${request.headers['proxy-authorization'] ?? '-'}`);
  const server = createServer((request, response) => {
    note('GET', request);
    const { pathname } = new URL(request.url ?? '');
    const onward = httpRequest({ host: '127.0.0.1', port, path: pathname, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.end();
  });
  server.on('connect', (request, socket: Socket) => {
    note('CONNECT', request);
    const onward = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.pipe(socket);
      socket.pipe(onward);
    });
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ])
      one.on('error', () => other.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, url: `http://me:secret@127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** A registry that is reached through a proxy alone. */
async function behindProxy(t: TestContext, secure: boolean) {
  const registry = await startRegistry({
    layouts: { app: layout.path },
    ...(secure ? { tls: { cert: TEST_CERTIFICATE, key: TEST_KEY } } : {}),
  });
  const proxy = await startProxy(Number(new URL(registry.url).port));
  const transport = createTransport(DEFAULT_TIMEOUTS, 'nymph', () => proxy.url);
  t.after(async () => {
    await transport.close();
    proxy.server.close();
    await registry.close();
    proxy.server.closeAllConnections();
  });
  return { registry, proxy, transport };
}

for (const secure of [false, true]) {
  test(`a proxy carries ${secure ? 'https through a tunnel' : 'http'}, with its password`, async (t) => {
    const { registry, proxy, transport } = await behindProxy(t, secure);
    const [{ digest, bytes }] = layout.blobs;
    const scheme = secure ? 'https' : 'http';
    const url = new URL(`${scheme}://registry.test:5000/v2/app/blobs/${digest}`);
    const tls = secure ? { id: 'test', ca: [TEST_CERTIFICATE] } : undefined;
    for (let i = 0; i < 3; i++) {
      const response = await transport.send(
        { method: 'GET', url, headers: { range: 'bytes=10-99999' } },
        { tls },
        never,
      );
      assert.equal(response.status, 206);
      assert.ok((await readUpTo(response, 1 << 20)).equals(bytes.subarray(10, 100_000)));
    }
    const password = `Basic ${Buffer.from('me:secret').toString('base64')}`;
    const expected = secure ? `CONNECT registry.test:5000 ${password}` : `GET ${url} ${password}`;
    assert.deepEqual([...new Set(proxy.asked)], [expected]);
    assert.equal(registry.stats.requests, 3);
    assert.ok(registry.stats.log.every((entry) => entry.headers.host === 'registry.test:5000'));
  });
}

test('a name from outside that leads to this machine is asked for by no proxy either', async (t) => {
  const { proxy, transport } = await behindProxy(t, false);
  const send = (host: string) =>
    transport.send({ method: 'GET', url: new URL(`http://${host}/v2/`), headers: {} }, { foreign: true }, never);
  for (const host of ['localhost', '127.0.0.1', '169.254.169.254', '[::1]'])
    assert.equal((await refused(send(host))).code, 'denied', host);
  assert.deepEqual(proxy.asked, []);
  // Where only the proxy knows names, it is asked.
  const response = await send('hub.invalid');
  assert.equal(response.status, 200);
  for await (const _ of response.body);
});
