/** The Debian package, by a real dpkg and a real systemd: installed, upgraded under load, by a broken one too, and removed. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { controlClient } from '../../src/daemon/control-client.ts';
import { until } from '../daemon.ts';
import { PROJECT } from '../fixtures.ts';
import { makeImage } from '../made-image.ts';
import { startReaders } from '../readers.ts';
import { startRegistry } from '../registry/registry.ts';
import { cannotStage, stage } from '../staged.ts';
import { bootSystemd, cannotBoot } from '../systemd/systemd.ts';
import { makeBigFile } from '../tree.ts';

const noDpkg = spawnSync('dpkg-deb', ['--version']).error ? 'not installed: dpkg' : false;

test('the Debian package: an upgrade harms no reader, a broken one is taken back, a removal leaves nothing', {
  skip: cannotStage() || cannotBoot() || noDpkg,
}, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  const cleaners: (() => Promise<void>)[] = [];
  t.after(async () => {
    for (const clean of cleaners) await clean();
    rmSync(directory, { recursive: true, force: true });
  });
  const staged = join(directory, 'staged');
  await stage(staged);
  /** A package of that version, in which `changed` files differ. */
  const packaged = (version: string, changed: Record<string, string> = {}) => {
    const own = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
    const texts = { 'package.json': JSON.stringify({ ...own, version }), 'build-id': `${version}-test\n`, ...changed };
    for (const [path, text] of Object.entries(texts)) writeFileSync(join(staged, path), text);
    const file = join(directory, `nymph_${version}.deb`);
    const env = { ...process.env, DEB_COMPRESSION: 'none' };
    execFileSync('sh', [join(PROJECT, 'deploy/deb/build.sh'), staged, version, file], { env });
    return file;
  };
  const first = packaged('1.0.0');
  const second = packaged('2.0.0');
  const broken = packaged('3.0.0', { 'dist/daemon/main.js': 'process.exit(3);\n' });

  const image = await makeImage(directory, 'made', (tree) => makeBigFile(join(tree, 'big'), 24 << 20, 1));
  const registry = await startRegistry({ layouts: { made: image.layout } });
  t.after(() => registry.close());
  const address = join(directory, 'c.sock');
  const client = controlClient(address);
  const systemd = await bootSystemd(
    { after: (clean) => void cleaners.push(clean) },
    directory,
    {
      'test.target': '[Unit]\nDescription=test\n',
      'nymph.service.d/test.conf': `[Unit]\nDefaultDependencies=no\n[Service]\nStandardOutput=append:${directory}/log\nStandardError=append:${directory}/log\n`,
    },
    'own',
  );
  const config = `root = "${directory}/root"\naddress = "${address}"\n[registry]\nplain_http = ["${registry.host}"]\n`;
  writeFileSync(join(directory, 'config.toml'), config);
  const good = async (...command: string[]) => {
    const { status, out, err } = await systemd.run(...command);
    assert.equal(status, 0, `${command.join(' ')}: ${err}${out}`);
    return out.toString();
  };
  assert.equal(await good('findmnt', '-no', 'FSTYPE', '/'), 'overlay\n', 'this machine is left as it is');
  // Images for containers forbid services to start.
  await good('sh', '-c', "printf '#!/bin/sh\\nexit 0\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d");
  await good('mkdir', '-p', '/etc/nymph');
  await good('cp', join(directory, 'config.toml'), '/etc/nymph/config.toml');

  await good('dpkg', '--install', '--force-depends', first);
  assert.equal(await good('nymph', '--version'), '1.0.0\n');
  assert.equal(await systemd.property('nymph.service', 'ActiveState'), 'active', 'it is started');
  const mounted = join(directory, 'image');
  mkdirSync(mounted);
  await client.mount({ reference: `${registry.host}/made:made`, directory: mounted, options: { prefetch: 'none' } });
  const readers = startReaders(t, image.truth, mounted, { readers: 4, through: systemd.inside });
  const readThrough = () =>
    until(60_000, 'nobody reads', async () => {
      const { fuse } = await client.status();
      return fuse.hits + fuse.faults > 0 ? true : undefined;
    });
  await readThrough();

  const old = await client.health();
  await good('dpkg', '--install', '--force-depends', second);
  const now = await client.health();
  assert.equal(now.version, '2.0.0');
  assert.equal(now.installed, '/usr/lib/nymph/versions/2.0.0-test');
  assert.notEqual(now.pid, old.pid);
  assert.equal(await systemd.property('nymph.service', 'NRestarts'), '0');
  assert.equal(await good('ls', '/usr/lib/nymph/versions'), '2.0.0-test\n', 'the old one is gone');
  await readThrough();

  const failed = await systemd.run('dpkg', '--install', '--force-depends', broken);
  assert.notEqual(failed.status, 0);
  assert.match(failed.err, /cannot take over: .*it ended \(3\)/);
  assert.match(failed.err, /the version before goes on/);
  assert.equal((await client.health()).pid, now.pid, 'the daemon was not touched');
  assert.equal(await good('nymph', '--version'), '2.0.0\n', 'nor what the next start takes');
  await good('dpkg', '--install', '--force-depends', second);
  await readThrough();

  // A restart of the service is no end, either.
  await systemd.systemctl('restart', 'nymph.service');
  await readThrough();
  const seen = await readers.stop();
  assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
  assert.ok(seen.reads > 0);

  await client.unmount(mounted, true);
  await good('dpkg', '--purge', 'nymph');
  assert.equal(
    await good(
      'find',
      '/usr/lib',
      '/usr/bin',
      '/usr/share/doc',
      '-path',
      '*nymph*',
      '-not',
      '-path',
      '/usr/lib/node_modules/*',
    ),
    '',
  );
  assert.notEqual(await systemd.property('nymph.service', 'ActiveState'), 'active');
});
