import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { serveImageService } from '../../src/cri/proxy.ts';
import { createCaptured } from '../../src/sources/registry/captured.ts';
import { noContainerd, testContainerd } from '../containerd.ts';
import { PULL_IMAGE, pullRequest, rawClient } from '../cri.ts';
import { run } from '../daemon.ts';
import { makePlainImage } from '../plain-image.ts';
import { startRegistry } from '../registry/registry.ts';

/** The proxy in front of the ImageService of a real containerd. */

test('a real containerd pulls through the CRI socket, and the login is remembered', {
  skip: noContainerd(),
}, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-cri-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const layout = join(directory, 'layout');
  makePlainImage(layout, 'v1', { 'etc/hello': 'hello' });
  const server = await startRegistry({
    layouts: { app: layout },
    faults: { auth: { kind: 'basic', username: 'me', password: 'hunter2' } },
  });
  t.after(() => server.close());
  const containerd = await testContainerd(t, join(directory, 'c'), 'version = 2\n');
  const captured = createCaptured(undefined, assert.fail);
  const log = { debug() {}, warn: assert.fail };
  const address = join(directory, 'cri.sock');
  const proxy = await serveImageService({ address, containerd: containerd.address, captured, log });
  t.after(() => proxy.close());
  const client = rawClient(address);
  t.after(() => client.close());

  const image = `${server.host}/app:v1`;
  const wrong = await client.call(PULL_IMAGE, pullRequest(image, { username: 'me', password: 'wrong' }));
  assert.ok(wrong.error, 'containerd was refused');
  assert.deepEqual(await captured.find(server.host, 'app', []), []);
  const right = await client.call(PULL_IMAGE, pullRequest(image, { username: 'me', password: 'hunter2' }));
  assert.equal(right.error, undefined);
  assert.match(right.body!.toString('latin1'), /sha256:[0-9a-f]{64}/);
  const found = await captured.find(server.host, 'app', []);
  assert.deepEqual(
    found.map(({ credential }) => credential),
    [{ kind: 'basic', username: 'me', password: 'hunter2' }],
  );
  const list = await client.call('/runtime.v1.ImageService/ListImages', Buffer.alloc(0));
  assert.ok(list.body!.includes(image));
  const usage = await client.call('/runtime.v1.ImageService/ImageFsInfo', Buffer.alloc(0));
  assert.equal(usage.error, undefined);
  const version = await client.call('/runtime.v1.RuntimeService/Version', Buffer.alloc(0));
  assert.match(version.body!.toString('latin1'), /containerd/, 'other services pass too');

  await containerd.stop();
  const gone = await client.call('/runtime.v1.ImageService/ListImages', Buffer.alloc(0));
  assert.equal(gone.error?.code, status.UNAVAILABLE);
  await containerd.start();
  // The socket listens before the service behind it is ready.
  let again = await client.call('/runtime.v1.ImageService/ListImages', Buffer.alloc(0));
  for (let tries = 0; again.error && tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    again = await client.call('/runtime.v1.ImageService/ListImages', Buffer.alloc(0));
  }
  assert.ok(again.body?.includes(image), `${again.error}`);

  if (spawnSync('crictl', ['--version']).error) return t.diagnostic('without crictl, which is not installed');
  const crictl = (...args: string[]) =>
    run('crictl', [
      '--image-endpoint',
      `unix://${address}`,
      '--runtime-endpoint',
      `unix://${containerd.address}`,
      ...args,
    ]);
  const images = await crictl('images', '-o', 'json');
  assert.equal(images.status, 0, images.err);
  assert.ok(images.out.includes(image));
  const pulled = await crictl('pull', '--creds', 'me:hunter2', image);
  assert.equal(pulled.status, 0, pulled.err);
});
