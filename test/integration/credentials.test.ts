import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import { PULL_IMAGE, pullRequest, rawClient, serveRaw } from '../cri.ts';
import { cannotMount, run, testDaemon } from '../daemon.ts';
import { APP_LAYOUT, APP_MANIFEST } from '../fixtures.ts';
import { checkTree } from '../manifest.ts';
import { startRegistry } from '../registry/registry.ts';

const SECRETS = {
  pull: 'hunter2-of-the-pull',
  secret: 'hunter2-of-the-secret',
  file: 'hunter2-of-the-file',
  helper: 'hunter2-of-the-helper',
};

const encode = (text: string) => Buffer.from(text).toString('base64');

/** All ways in which a secret may be written. */
const TRACES = Object.values(SECRETS).flatMap((secret) => [
  secret,
  encode(secret).replace(/=+$/, ''),
  encode(`me:${secret}`).replace(/=+$/, ''),
]);

test('a login in each place serves a mounted image in turn, and is seen nowhere', {
  skip: cannotMount(),
}, async (t) => {
  const server = await startRegistry({ layouts: { app: APP_LAYOUT } });
  t.after(() => server.close());
  const accept = (password: string) => {
    server.faults.auth = { kind: 'token', username: 'me', password };
    server.revokeTokens();
  };
  const daemon = await testDaemon(t, { start: false });
  const { directory } = daemon;
  const place = (name: string) => join(directory, name);

  // Who may look sees the arguments of every process, while the helper runs.
  mkdirSync(place('bin'));
  writeFileSync(
    place('bin/docker-credential-test'),
    `#!/bin/sh\ncat >/dev/null\ncat /proc/[0-9]*/cmdline >>"${place('ps')}" 2>/dev/null\n` +
      `echo '{"Username":"me","Secret":"${SECRETS.helper}"}'\n`,
  );
  chmodSync(place('bin/docker-credential-test'), 0o755);
  mkdirSync(place('secrets/one'), { recursive: true });
  const auths = (secret: string) => ({ [server.host]: { auth: encode(`me:${secret}`) } });
  writeFileSync(place('secrets/one/.dockerconfigjson'), JSON.stringify({ auths: auths(SECRETS.secret) }));
  writeFileSync(
    place('docker.json'),
    JSON.stringify({ auths: auths(SECRETS.file), credHelpers: { [server.host]: 'test' } }),
  );
  writeFileSync(
    place('config.toml'),
    `root = "${daemon.root}"\naddress = "${daemon.address}"\n[log]\nlevel = "debug"\nformat = "json"\n` +
      `[cri]\naddress = "${place('cri.sock')}"\n[containerd]\naddress = "${place('containerd.sock')}"\n` +
      `[registry]\nsecrets_dirs = ["${place('secrets')}"]\ncredentials = "${place('docker.json')}"\n`,
  );
  const { PATH } = process.env;
  process.env.PATH = `${place('bin')}:${PATH}`;
  t.after(() => {
    process.env.PATH = PATH;
  });
  const containerd = await serveRaw(place('containerd.sock'), {
    [PULL_IMAGE]: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => done(null, call.request),
  });
  t.after(() => containerd.forceShutdown());
  await daemon.start();

  const reference = `${server.host}/app:nydus`;
  const seen: string[] = [];
  const nymph = async (...args: string[]) => {
    const outcome = await daemon.nymph(...args);
    seen.push(outcome.out.toString(), outcome.err);
    return outcome;
  };
  const mountAndRead = async (before: string, after: string) => {
    accept(before);
    const mountpoint = daemon.place('mnt');
    const mounted = await nymph('mount', '--prefetch', 'none', reference, mountpoint);
    assert.equal(mounted.status, 0, mounted.err);
    // Months later: the login is another one.
    accept(after);
    await checkTree(mountpoint, APP_MANIFEST);
    assert.equal((await nymph('status', reference)).status, 0);
    assert.equal((await nymph('umount', mountpoint)).status, 0);
    assert.equal((await nymph('prune', '--all')).status, 0);
  };

  const kubelet = rawClient(place('cri.sock'));
  t.after(() => kubelet.close());
  accept(SECRETS.pull);
  const denied = await nymph('inspect', reference);
  assert.equal(denied.status, 4, 'nobody has this login yet');
  const pulled = await kubelet.call(PULL_IMAGE, pullRequest(reference, { username: 'me', password: SECRETS.pull }));
  assert.equal(pulled.error, undefined);

  await mountAndRead(SECRETS.pull, SECRETS.secret);
  await mountAndRead(SECRETS.secret, SECRETS.helper);
  await mountAndRead(SECRETS.helper, SECRETS.file);
  await mountAndRead(SECRETS.file, SECRETS.pull);

  await daemon.kill('daemon', 'supervisor');
  await daemon.start();
  await mountAndRead(SECRETS.pull, SECRETS.pull);
  const kept = join(daemon.root, 'captured.json');
  assert.equal(statSync(kept).mode & 0o777, 0o600);
  assert.equal(statSync(daemon.root).mode & 0o077, 0, 'nobody else may look into the root');

  accept('known to nobody');
  for (const args of [
    ['mount', reference, daemon.place('none')],
    ['pull', reference],
    ['inspect', reference],
  ]) {
    const { status, err } = await nymph('--verbose', ...args);
    assert.equal(status, 4, err);
    assert.match(
      err,
      /the login of its last pull was refused; the secret .* was refused; docker-credential-test was refused/,
    );
  }
  const status = await nymph('status');
  assert.equal(status.status, 0);

  const api = await run('curl', ['-s', '--unix-socket', daemon.address, 'http://nymph/v1/status']);
  seen.push(api.out.toString());
  seen.push(...daemon.logged(''));
  assert.ok(seen.join('').includes('a pull brought a login'), 'the log is here');
  assert.ok(existsSync(place('ps')), 'the helper was asked');
  seen.push(readFileSync(place('ps'), 'latin1'));
  for (const trace of TRACES) assert.ok(!seen.join('\n').includes(trace), `${trace} is seen`);
});
