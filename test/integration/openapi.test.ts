/** Every call of the control API, on a running daemon: its answers are as docs/openapi.yaml has them. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FORMATS } from '../../src/daemon/formats.ts';
import { cannotMount, run, testDaemon, until } from '../daemon.ts';
import { ask } from '../http.ts';
import { makeImage } from '../made-image.ts';
import { conformance, operationsOf, readDocument } from '../openapi.ts';
import { startRegistry } from '../registry/registry.ts';

test('answers of a daemon are as the document has them', { skip: cannotMount() }, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const image = await makeImage(directory, 'app', (tree) => {
    for (let i = 0; i < 4; i++) writeFileSync(join(tree, `file-${i}`), randomBytes(100_000));
  });
  const registry = await startRegistry({ layouts: { app: image.layout } });
  t.after(() => registry.close());
  const daemon = await testDaemon(t, { toml: '[cache]\nquota = "1GiB"\n[dragonfly]\nendpoint = "none"' });
  const document = readDocument();
  const check = conformance(document);
  const left = new Set(operationsOf(document).keys());

  /** @param rest of the path, or its query */
  const call = async (operation: string, rest = '', body?: object) => {
    const [method, path] = operation.split(' ');
    const url = path.includes('{name}') ? path.replace('{name}', encodeURIComponent(rest)) : path + rest;
    const answer = await ask(daemon.address, url, { method, ...(body && { body: JSON.stringify(body) }) });
    check(operation, answer);
    left.delete(operation);
    return answer;
  };
  const done = async (operation: string, body: object) => {
    const { body: text } = await call(operation, '', body);
    const last = JSON.parse(text.trim().split('\n').at(-1)!);
    assert.equal(last.type, 'done', text);
    return last.result;
  };
  const fails = async (operation: string, rest: string, status: number, body?: object) =>
    assert.equal((await call(operation, rest, body)).status, status);

  const reference = `${registry.host}/app:app`;
  const place = daemon.place('image');
  for (const operation of ['GET /v1/status', 'GET /v1/images', 'GET /v1/mounts', 'GET /v1/live']) await call(operation);
  await done('POST /v1/mounts', { reference, directory: place, options: { prefetch: 'none' } });
  assert.equal((await run('cat', [join(place, 'file-1')])).status, 0);
  for (const operation of ['GET /v1/status', 'GET /v1/images', 'GET /v1/mounts', 'GET /v1/health', 'GET /v1/ready'])
    await call(operation);
  await call('GET /v1/live', '?cells=100');
  for (const name of [reference, image.digest]) {
    for (const kind of ['images', 'activity', 'traces']) await call(`GET /v1/${kind}/{name}`, name);
  }
  await call('PUT /v1/pins/{name}', reference);
  await call('DELETE /v1/pins/{name}', reference);
  await fails('PUT /v1/pins/{name}', 'sha256:0', 404);
  await call('GET /metrics');
  await call('GET /');
  await done('POST /v1/prefetch', { target: reference, files: ['/file-2', '/absent'] });
  await done('POST /v1/pull', { reference });
  await done('POST /v1/verify', { target: reference });
  await fails('GET /v1/live', '?cells=-1', 400);
  for (const kind of ['images', 'activity', 'traces']) await fails(`GET /v1/${kind}/{name}`, 'sha256:0', 404);
  await fails('DELETE /v1/mounts', `?directory=${daemon.directory}/nothing`, 404);
  // What fails once it has begun says so in a line of its own.
  assert.match((await call('POST /v1/preheat', '', { reference })).body, /"type":"error"/);
  assert.match((await call('POST /v1/mounts', '', { reference })).body, /"type":"error"/);
  await call('DELETE /v1/mounts', `?directory=${encodeURIComponent(place)}`);
  await done('POST /v1/prune', { target: 0 });
  // A program that ends at once: this one goes on.
  const none = { command: ['/bin/false'], formats: FORMATS, limit: 60_000 };
  assert.match((await call('POST /v1/upgrade', '', none)).body, /it ended \(1\) before it could begin/);
  await call('POST /v1/stop');
  assert.deepEqual([...left], [], 'operations that were not tried');
  await until(20_000, 'it does not end', () =>
    ask(daemon.address, '/v1/health').then(
      () => undefined,
      () => true,
    ),
  );
});
