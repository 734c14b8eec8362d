import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { noContainerd, testContainerd } from '../containerd.ts';
import { cannotMount, run, testDaemon } from '../daemon.ts';
import { makePlainImage } from '../plain-image.ts';
import { startRegistry } from '../registry/registry.ts';

/** containerd counts names, and collects garbage, for each name that it has for us by itself. */

test('two plugins of containerd on one socket do not touch each other’s snapshots', {
  skip: cannotMount() || noContainerd(),
}, async (t) => {
  const daemon = await testDaemon(t);
  const layouts = { app: join(daemon.directory, 'app'), other: join(daemon.directory, 'other') };
  makePlainImage(layouts.app, 'v1', { 'etc/hello': 'hello' });
  makePlainImage(layouts.other, 'v1', { 'etc/other': 'other' });
  const server = await startRegistry({ layouts });
  t.after(() => server.close());
  const file = join(daemon.directory, 'containerd.toml');
  const setup = await daemon.nymph('setup', 'containerd', '--file', file);
  assert.equal(setup.status, 0, setup.err);
  // In a directory of its own: the daemon's goes away first.
  const directory = mkdtempSync('/tmp/nymph-c-');
  const containerd = await testContainerd(t, directory, readFileSync(file, 'utf8'));
  t.after(async () => rmSync(directory, { recursive: true, force: true }));
  const ctr = async (...args: string[]) => {
    const { status, out, err } = await run('ctr', ['--address', containerd.address, ...args]);
    assert.equal(status, 0, `ctr ${args.join(' ')}: ${err}`);
    return out.toString();
  };
  const snapshots = (plugin: string, ...args: string[]) => ctr('snapshots', '--snapshotter', plugin, ...args);
  const pull = (plugin: string, name: string) =>
    ctr('images', 'pull', '--plain-http', '--snapshotter', plugin, `${server.host}/${name}:v1`);
  const upper = async (plugin: string) =>
    /upperdir=([^,\s]+)/.exec(await snapshots(plugin, 'mounts', '/mnt', 'mine'))![1];

  const chains: Record<string, string> = {};
  for (const plugin of ['nymph', 'nydus']) {
    await pull(plugin, 'app');
    chains[plugin] = /sha256:[0-9a-f]{64}/.exec(await snapshots(plugin, 'ls'))![0];
    await snapshots(plugin, 'prepare', 'mine', chains[plugin]);
  }
  assert.equal(chains.nymph, chains.nydus, 'the same layer, under the same name');
  assert.notEqual(await upper('nymph'), await upper('nydus'));

  // The end of another image makes containerd look for what nobody needs, under both names.
  await pull('nydus', 'other');
  await ctr('images', 'rm', '--sync', `${server.host}/other:v1`);
  await pull('nymph', 'other');
  await ctr('images', 'rm', '--sync', `${server.host}/other:v1`);
  for (const plugin of ['nymph', 'nydus']) {
    assert.ok(existsSync(await upper(plugin)), `${plugin} still has its snapshot`);
    assert.match(await snapshots(plugin, 'info', 'mine'), /"Kind": "Active"/);
    assert.equal(
      (await snapshots(plugin, 'ls')).trim().split('\n').length,
      3,
      'a heading, the layer, and what is on it',
    );
    await snapshots(plugin, 'rm', 'mine');
  }
});
