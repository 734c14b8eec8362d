/** Harbor's preheat policies, by a stand-in that answers as its API 2.0 does. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { preheatByHarbor } from '../../src/sources/dragonfly/harbor.ts';
import { DEFAULT_TIMEOUTS } from '../../src/sources/http/request.ts';
import { createTransport } from '../../src/sources/http/transport.ts';
import { known } from '../source-suite.ts';

const never = new AbortController().signal;
const DIGEST = `sha256:${'a'.repeat(64)}`;
const PLACE = '/api/v2.0/projects/library/preheat/policies/nodes';
const ARTIFACT = { project: 'library', name: 'library/app:nydus', digest: DIGEST };

interface Options {
  states?: object[];
  /** What the policy has preheated. */
  tasks?: object[];
  policy?: object;
  login?: string;
}

async function harbor(t: TestContext, options: Options = {}) {
  const { states = [{ status: 'Success' }], tasks = [], policy = { name: 'nodes', enabled: true } } = options;
  const asked: string[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { method, url = '', headers } = request;
    asked.push(`${method} ${url}`);
    const answer = (status: number, value?: object, header: Record<string, string> = {}) =>
      response.writeHead(status, header).end(value && JSON.stringify(value));
    const refused = (status: number, code: string) => answer(status, { errors: [{ code, message: code }] });
    const login = Buffer.from((headers.authorization ?? '').replace('Basic ', ''), 'base64').toString();
    if (login !== 'robot$nodes:secret') return void refused(401, 'UNAUTHORIZED');
    if (url.startsWith(`${PLACE}/executions/7/tasks?`)) {
      const query = new URL(url, 'http://harbor').searchParams;
      const [page, size] = ['page', 'page_size'].map((name) => Number(query.get(name)));
      return void answer(200, tasks.slice((page - 1) * size, page * size));
    }
    if (url === `${PLACE}/executions/7`)
      return void answer(200, { id: 7, ...(states.length > 1 ? states.shift() : states[0]) });
    if (url !== PLACE) return void refused(404, 'NOT_FOUND');
    if (method === 'GET') return void answer(200, policy);
    assert.deepEqual(JSON.parse(body), policy);
    answer(201, undefined, { location: '/projects/library/preheat/policies/nodes/executions/7' });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const transport = createTransport(DEFAULT_TIMEOUTS, 'test', () => undefined);
  t.after(async () => {
    await transport.close();
    server.close();
  });
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const seen: string[] = [];
  const run = (more: { policy?: string; login?: string } = {}) =>
    preheatByHarbor(
      transport,
      { url, policy: 'nodes', login: 'robot$nodes:secret', ...more },
      ARTIFACT,
      (state) => seen.push(state),
      never,
    );
  return { run, asked, seen };
}

const task = (digest: string, artifact = 'library/other:1') => ({
  status: 'Success',
  extra_attrs: { artifact, digest },
});

test('a policy is run, waited for, and must have preheated the image', async (t) => {
  const many = Array.from({ length: 150 }, (_, i) => task(`sha256:${i}`));
  const { run, asked, seen } = await harbor(t, {
    states: [
      { status: 'Running', metrics: { task_count: 2, success_task_count: 1 } },
      { status: 'Success', metrics: { task_count: 2, success_task_count: 2 } },
    ],
    tasks: [...many, task(DIGEST)],
  });
  await run();
  assert.deepEqual(seen, ['running, 1 of 2 images']);
  assert.deepEqual(asked.slice(0, 3), [`GET ${PLACE}`, `POST ${PLACE}`, `GET ${PLACE}/executions/7`]);
  assert.equal(asked.filter((line) => line.includes('/tasks')).length, 2, 'the second page has it');
});

test('of an index it is enough that its tag was preheated', async (t) => {
  const { run } = await harbor(t, { tasks: [task('sha256:of-the-index', ARTIFACT.name)] });
  await run();
});

test('a policy about other images, one that fails, is disabled or is not there, and a wrong login', async (t) => {
  const other = await harbor(t, { tasks: [task('sha256:other')] });
  await assert.rejects(other.run(), known({ code: 'precondition', hint: /filters/ }));
  const nothing = await harbor(t, { states: [{ status: 'Success', status_message: 'no artifacts to preheat' }] });
  await assert.rejects(nothing.run(), known({ code: 'precondition', hint: /filters/ }));
  const failed = await harbor(t, { states: [{ status: 'Error', status_message: 'the provider is unhealthy' }] });
  await assert.rejects(failed.run(), known({ code: 'source', message: /the provider is unhealthy/ }));
  const disabled = await harbor(t, { policy: { name: 'nodes', enabled: false } });
  await assert.rejects(disabled.run(), known({ code: 'precondition', message: /disabled/ }));
  await assert.rejects(
    other.run({ policy: 'absent' }),
    known({ code: 'not-found', message: /no preheat policy absent/ }),
  );
  await assert.rejects(other.run({ login: 'x:y' }), known({ code: 'denied', hint: /harbor_login/ }));
});
