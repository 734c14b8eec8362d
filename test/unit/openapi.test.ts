import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { createRoutes, type RouteParts } from '../../src/daemon/routes.ts';
import { conformance, operationsOf, readDocument } from '../openapi.ts';

test('docs/openapi.yaml is a document of OpenAPI 3.1', async () => {
  const document = readDocument();
  const { valid, errors } = await new Validator().validate(structuredClone(document) as never);
  assert.ok(valid, JSON.stringify(errors));
});

test('docs/openapi.yaml has every route, and no other', () => {
  const { calls, works, pages = {} } = createRoutes({} as RouteParts);
  const routes = [...Object.keys(calls), ...Object.keys(works)].map((name) => name.replace(/\/$/, '/{name}'));
  const expected = [...routes, ...Object.keys(pages)].sort();
  assert.deepEqual([...operationsOf(readDocument()).keys()].sort(), expected);
});

test('an answer that the document does not have is found', () => {
  const check = conformance(readDocument());
  const answer = (status: number, body: unknown, type = 'application/json') => ({
    ...{ status, body: typeof body === 'string' ? body : JSON.stringify(body) },
    headers: { 'content-type': type },
  });
  const health = { version: '1', pid: 1, uptime: 1, root: '/r', installed: '/i' };
  check('GET /v1/health', answer(200, health));
  assert.throws(() => check('GET /v1/health', answer(200, { ...health, pid: 'x' })), /pid must be integer/);
  assert.throws(() => check('GET /v1/health', answer(200, { ...health, more: 1 })), /must NOT have additional/);
  assert.throws(() => check('GET /v1/health', answer(500, health)), /no status 500/);
  assert.throws(() => check('GET /v1/health', answer(200, 'x', 'text/plain')), /no text\/plain/);
  assert.throws(() => check('GET /v1/other', answer(200, {})), /has no GET/);
  const error = { code: 'not-found', message: 'no' };
  check('GET /v1/images/{name}', answer(404, { error }));
  const lines = [
    { type: 'progress', progress: { stage: 'x' } },
    { type: 'error', error },
  ];
  check('POST /v1/pull', answer(200, lines.map((line) => JSON.stringify(line)).join('\n'), 'application/x-ndjson'));
  assert.throws(() => check('POST /v1/pull', answer(200, '{"type":"done","result":{}}', 'application/x-ndjson')));
});
