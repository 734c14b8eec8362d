import assert from 'node:assert/strict';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type PreheatArguments, preheatByManager } from '../../src/sources/dragonfly/manager.ts';
import { DEFAULT_TIMEOUTS } from '../../src/sources/http/request.ts';
import { createTransport } from '../../src/sources/http/transport.ts';
import { known } from '../source-suite.ts';

const never = new AbortController().signal;
const ARGS: PreheatArguments = {
  type: 'image',
  url: 'https://r.example/v2/app/manifests/sha256:ab',
  platform: 'linux/amd64',
  headers: { authorization: 'Bearer registry' },
  scope: 'all_seed_peers',
  filtered_query_params: 'ns',
};

interface Asked {
  method: string | undefined;
  url: string | undefined;
  authorization: string | undefined;
  body: string;
}

/** A manager that answers with one state after the other. */
async function manager(t: TestContext, states: (string | number)[]): Promise<{ url: URL; asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createServer(async (request: IncomingMessage, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { method, url, headers } = request;
    asked.push({ method, url, authorization: headers.authorization, body });
    const state = states.length > 1 ? states.shift() : states[0];
    if (typeof state === 'number') return void response.writeHead(state).end('{"errmsg":"no"}');
    response.end(JSON.stringify({ id: 7, state, result: { group: 'x' } }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return { asked, url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`) };
}

async function preheat(t: TestContext, url: URL, seen: string[] = []): Promise<void> {
  const transport = createTransport(DEFAULT_TIMEOUTS, 'test', () => undefined);
  t.after(() => transport.close());
  await preheatByManager(transport, { url, token: 'secret' }, ARGS, (state) => seen.push(state), never);
}

test('a job is made, and waited for', async (t) => {
  const { url, asked } = await manager(t, ['PENDING', 'STARTED', 'SUCCESS']);
  const seen: string[] = [];
  await preheat(t, url, seen);
  assert.deepEqual(seen, ['started']);
  assert.deepEqual(
    asked.map(({ method, url: path }) => `${method} ${path}`),
    ['POST /oapi/v1/jobs', 'GET /oapi/v1/jobs/7', 'GET /oapi/v1/jobs/7'],
  );
  assert.deepEqual(JSON.parse(asked[0].body), { type: 'preheat', args: ARGS });
  assert.ok(asked.every(({ authorization }) => authorization === 'Bearer secret'));
});

test('a job that fails, a token that is refused, and what is no manager', async (t) => {
  await assert.rejects(
    preheat(t, (await manager(t, ['PENDING', 'FAILURE'])).url),
    known({ code: 'source', message: /did not preheat/ }),
  );
  await assert.rejects(preheat(t, (await manager(t, [401])).url), known({ code: 'denied', hint: /manager_token/ }));
  await assert.rejects(preheat(t, (await manager(t, [500])).url), known({ code: 'source', message: /status 500/ }));
  await assert.rejects(preheat(t, new URL('http://127.0.0.1:9')), known({ code: 'source', retryable: true }));
});
