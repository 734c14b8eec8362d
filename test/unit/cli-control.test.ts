import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createSocketServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Progress } from '../../src/daemon/api.ts';
import { controlClient, isDaemonAbsent } from '../../src/daemon/control-client.ts';
import { NymphError } from '../../src/errors.ts';
import { nymph, scratch, serve } from './cli-daemon.ts';

async function listen(t: TestContext, listener: RequestListener): Promise<string> {
  const address = join(await scratch(t), 's');
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(address, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return address;
}

async function failure(promise: Promise<unknown>): Promise<NymphError> {
  const error = await promise.then(
    () => assert.fail('no error'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof NymphError, String(error));
  return error;
}

test('progress comes as it is sent, cut anywhere', async (t) => {
  const lines = [
    { type: 'progress', progress: { stage: 'fetching ü', done: 1, total: 2 } },
    { type: 'progress', progress: { stage: 'fetching ü', done: 2, total: 2 } },
    { type: 'done', result: { fetched: 7 } },
  ];
  const bytes = Buffer.from(`${lines.map((line) => JSON.stringify(line)).join('\n')}\n\n`);
  const address = await listen(t, async (request, response) => {
    request.resume();
    for (const byte of bytes) {
      response.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    response.end();
  });
  const seen: Progress[] = [];
  const result = await controlClient(address).pull({ reference: 'a' }, (progress) => seen.push(progress));
  assert.deepEqual(result, { fetched: 7 });
  assert.deepEqual(
    seen.map((progress) => [progress.stage, progress.done]),
    [
      ['fetching ü', 1],
      ['fetching ü', 2],
    ],
  );
});

test('an answer that is not of nymph is an error that says so', async (t) => {
  const answers: [number, string][] = [
    [200, '<html>'],
    [200, ''],
    [500, '{}'],
    [500, 'null'],
    [502, '{"error":"text"}'],
    [200, '{"type":"strange"}'],
    [200, 'null'],
  ];
  for (const [status, text] of answers) {
    const address = await listen(t, (_, response) => response.writeHead(status).end(text));
    const error = await failure(controlClient(address).prune({}));
    assert.equal(error.code, 'daemon', text);
    assert.match(error.message, /gave no answer of nymph to POST \/v1\/prune|ended before it answered/, text);
    assert.equal(isDaemonAbsent(error), false);
  }
  const address = await listen(t, (_, response) => response.end('<html>'));
  assert.match(
    (await failure(controlClient(address).health())).message,
    /no answer of nymph to GET \/v1\/health: "<html>"/,
  );
});

test('a stream that breaks off is an error', async (t) => {
  for (const end of ['end', 'destroy'] as const) {
    const address = await listen(t, (_, response) => {
      response.write('{"type":"progress","progress":{"stage":"a"}}\n');
      setTimeout(() => response[end](), 10);
    });
    const error = await failure(controlClient(address).pull({ reference: 'a' }));
    assert.equal(error.code, 'daemon', end);
    assert.match(error.message, /ended before it answered/);
  }
});

test('an unknown code of a newer daemon is internal', async (t) => {
  const body = JSON.stringify({ error: { code: 'newer', message: 'm', hint: 'h' } });
  const address = await listen(t, (_, response) => response.writeHead(500).end(body));
  const error = await failure(controlClient(address).status());
  assert.deepEqual([error.code, error.message, error.hint], ['internal', 'm', 'h']);
});

test('abort before, during the wait and during the stream', async (t) => {
  await failure(controlClient(await serve(t, {}), AbortSignal.abort()).health()).then((error) =>
    assert.equal(error.code, 'cancelled'),
  );
  for (const begin of [false, true]) {
    const hungUp = Promise.withResolvers<void>();
    const address = await listen(t, (_, response) => {
      response.on('close', () => hungUp.resolve());
      if (begin) response.write('{"type":"progress","progress":{"stage":"a"}}\n');
    });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 30);
    const error = await failure(controlClient(address, controller.signal).pull({ reference: 'a' }));
    assert.equal(error.code, 'cancelled');
    await hungUp.promise;
  }
});

test('a socket that is absent, dead or forbidden', async (t) => {
  const directory = await scratch(t);
  const absent = await failure(controlClient(join(directory, 'none')).health());
  assert.match(absent.message, /^no daemon runs at /);
  assert.ok(isDaemonAbsent(absent));

  const dead = join(directory, 'dead');
  // A process that is killed leaves its socket behind.
  const listening = `createServer().listen(${JSON.stringify(dead)}, () => process.kill(process.pid, 'SIGKILL'))`;
  const { signal } = spawnSync(process.execPath, ['-e', `require('node:net').${listening}`]);
  assert.equal(signal, 'SIGKILL');
  const refused = await failure(controlClient(dead).health());
  assert.match(refused.message, /^nobody listens on .*; a daemon that died left it behind$/);
  assert.ok(isDaemonAbsent(refused));
});

test('no permission for the socket is said as such', async (t) => {
  if (process.getuid?.() === 0) return t.skip('root may connect to every socket');
  const address = join(await scratch(t), 's');
  const server = createSocketServer();
  await new Promise<void>((resolve) => server.listen(address, resolve));
  t.after(() => server.close());
  await chmod(address, 0);
  const error = await failure(controlClient(address).health());
  assert.match(error.message, /^no permission to talk to the daemon/);
  assert.equal(isDaemonAbsent(error), false);
  assert.equal((await nymph(['mount', 'app', 'm', '--address', address])).status, 7);
});
