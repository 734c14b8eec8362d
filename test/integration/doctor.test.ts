import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Finding } from '../../src/doctor/finding.ts';
import { noContainerd, testContainerd } from '../containerd.ts';
import { cannotMount, mountsBelow, testDaemon } from '../daemon.ts';
import { APP_LAYOUT } from '../fixtures.ts';
import { makePlainImage } from '../plain-image.ts';
import { startRegistry } from '../registry/registry.ts';

test('doctor says what is missing, and is content when nothing is', {
  skip: cannotMount() || noContainerd(),
}, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-c-');
  const file = join(directory, 'containerd.toml');
  const toml = `[containerd]\naddress = "${directory}/containerd.sock"\nconfig = "${file}"\n`;
  const daemon = await testDaemon(t, { start: false, toml });
  const doctor = async (...args: string[]) => {
    const { status, json, err } = await daemon.nymph('doctor', ...args);
    const { findings, problems } = json as { findings: Finding[]; problems: number };
    assert.equal(status, problems > 0 ? 1 : 0, err);
    for (const finding of findings)
      assert.ok(finding.level === 'ok' || finding.todo, `what to do about: ${finding.says}`);
    return {
      problems: findings.filter(({ level }) => level === 'problem').map(({ says }) => says),
      all: findings.map(({ level, check, says }) => `${level} ${check} ${says}`).join('\n'),
    };
  };

  const nothing = await doctor();
  assert.match(nothing.all, /ok kernel EROFS mounts images/);
  assert.match(nothing.all, /warning daemon no daemon runs/);
  assert.match(nothing.all, /problem containerd containerd does not answer on .*connect ENOENT/);
  assert.ok(!existsSync(daemon.root), 'it makes nothing');

  const containerd = await testContainerd(t, directory, 'version = 2\n');
  t.after(async () => rmSync(directory, { recursive: true, force: true }));
  await daemon.start();
  assert.match((await doctor()).problems.join(), /^it has no snapshotter at [^,]*$/);
  assert.equal((await daemon.nymph('setup', 'containerd', '--cri')).status, 0);
  assert.match((await doctor()).problems.join(), /but its configuration has/);
  await containerd.stop();
  await containerd.start();
  const well = await doctor();
  assert.deepEqual(well.problems, []);
  assert.match(well.all, /ok daemon it answers on .* \(snapshotter\.address\)/);
  assert.match(well.all, /ok containerd nymph is its snapshotter (nydus, nymph|nymph, nydus)/);
  assert.match(well.all, /ok containerd pods get the snapshots of nymph/);
  assert.deepEqual(
    readdirSync(daemon.root).filter((name) => name.includes('doctor')),
    [],
  );
  assert.ok(mountsBelow(daemon.root).every((entry) => !entry.directory.includes('doctor')));

  const layouts = { app: APP_LAYOUT, plain: join(daemon.directory, 'plain') };
  makePlainImage(layouts.plain, 'v1', { 'etc/hello': 'hello' });
  const server = await startRegistry({
    layouts,
    faults: { auth: { kind: 'basic', username: 'me', password: 'hunter2' } },
  });
  t.after(() => server.close());
  const refused = await doctor(`${server.host}/app:nydus`);
  assert.match(refused.problems.join(), /wants a login/);
  const secrets = join(daemon.directory, 'docker.json');
  const entry = (password: string) => ({ auths: { [server.host]: { username: 'me', password } } });
  writeFileSync(
    join(daemon.directory, 'config.toml'),
    `root = "${daemon.root}"\naddress = "${daemon.address}"\n${toml}[registry]\ncredentials = "${secrets}"\n`,
  );
  writeFileSync(secrets, JSON.stringify(entry('wrong-hunter2')));
  const wrong = await doctor(`${server.host}/app:nydus`);
  assert.match(wrong.problems.join(), /status 401/);
  assert.doesNotMatch(wrong.all, /hunter2/);
  writeFileSync(secrets, JSON.stringify(entry('hunter2')));
  const lazy = await doctor(`${server.host}/app:nydus`);
  assert.deepEqual(lazy.problems, []);
  assert.match(lazy.all, /ok registry for .*\/app there are logins, in this order: .*docker\.json/);
  assert.match(lazy.all, /ok registry .*app:nydus: Nydus image/);
  const plain = await doctor(`${server.host}/plain:v1`);
  assert.deepEqual(plain.problems, []);
  assert.match(plain.all, /warning registry .*plain:v1 is not lazy: /);

  await daemon.kill('daemon', 'supervisor');
  assert.match((await doctor()).all, /warning daemon nobody listens on/);
});
