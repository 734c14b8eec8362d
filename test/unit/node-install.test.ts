/** What the DaemonSet does on a node, with a stand-in for what it finds there: systemd, and nymph as it is installed. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROJECT } from '../fixtures.ts';

const SCRIPT = join(PROJECT, 'deploy', 'container', 'node.sh');

function stage(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'nymph-node-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const at = (...parts: string[]) => join(root, ...parts);
  for (const directory of ['tree/bin', 'config', 'secrets', 'node/secrets'])
    mkdirSync(at(directory), { recursive: true });
  cpSync(join(PROJECT, 'deploy'), at('tree', 'deploy'), { recursive: true });
  writeFileSync(at('tree', 'bin', 'nymph'), '');
  writeFileSync(at('config', 'config.toml'), '[cache]\nquota = "1GiB"\n');
  // Files of the node are ours; its service manager, and nymph there, say what the test has put into `state`.
  writeFileSync(
    at('exec'),
    `#!/bin/sh
state=${at('state')}
case "$*" in
"test -d /run/systemd/system") [ -e $state/systemd ] ;;
"systemctl is-active --quiet nymph") [ -e $state/active ] ;;
systemctl*) echo "$*" >>$state/log; case $3 in --now) touch $state/active ;; esac ;;
*/bin/nymph\\ status*) printf '{"health":{"installed":"%s/versions/%s"}}' ${at('usr/lib/nymph')} "$(cat $state/runs)" ;;
*/bin/nymph\\ upgrade) echo upgrade >>$state/log; exit $(cat $state/upgrade-status) ;;
*/bin/nymph\\ setup*) echo "$2 $3 $4" >>$state/log; printf '{"written": %s}' "$(cat $state/written)" ;;
*) exec "$@" ;;
esac
`,
  );
  const set = (name: string, text = '') => {
    mkdirSync(at('state'), { recursive: true });
    writeFileSync(at('state', name), text);
  };
  set('systemd');
  set('written', 'false');
  set('upgrade-status', '0');
  const env = {
    ...process.env,
    NODE_EXEC: `sh ${at('exec')}`,
    TREE: at('tree'),
    PREFIX: at('usr'),
    CONFIG: at('config', 'config.toml'),
    NODE_CONFIG: at('etc', 'nymph', 'config.toml'),
    SECRETS: at('secrets'),
    NODE_SECRETS: at('node', 'secrets'),
    SECRETS_EVERY: 'once',
  };
  return {
    ...{ at, set, env },
    /** As an image of another version has it. */
    version: (build: string) => writeFileSync(at('tree', 'build-id'), build),
    run(action: string, more: Record<string, string> = {}) {
      set('log');
      const { status, stdout, stderr } = spawnSync('sh', [SCRIPT, action], {
        env: { ...env, ...more },
        encoding: 'utf8',
      });
      const did = readFileSync(at('state', 'log'), 'utf8').split('\n').filter(Boolean);
      return { status, did, said: stdout + stderr };
    },
  };
}

test('a node gets nymph, its configuration and containerd’s; a second time there is nothing to do', (t) => {
  const { at, version, set, run } = stage(t);
  version('0.1.0-aaaa');
  set('written', 'true');
  const first = run('install');
  assert.equal(first.status, 0, first.said);
  assert.deepEqual(first.did, [
    'systemctl enable --now nymph',
    'setup containerd --cri',
    'systemctl restart containerd',
  ]);
  assert.equal(readlinkSync(at('usr/lib/nymph/current')), 'versions/0.1.0-aaaa');
  assert.ok(existsSync(at('usr/lib/systemd/system/nymph.service')));
  assert.equal(existsSync(at('usr/lib/nymph/incoming')), false);
  assert.match(readFileSync(at('etc/nymph/config.toml'), 'utf8'), /1GiB/);
  set('written', 'false');
  set('runs', '0.1.0-aaaa');
  const second = run('install');
  assert.deepEqual([second.status, second.did], [0, ['setup containerd --cri']], second.said);
});

test('another version takes over from the one that runs; where that fails, so does the pod', (t) => {
  const { at, version, set, run } = stage(t);
  version('0.1.0-aaaa');
  run('install');
  version('0.2.0-bbbb');
  set('runs', '0.1.0-aaaa');
  const upgraded = run('install');
  assert.deepEqual([upgraded.status, upgraded.did], [0, ['upgrade', 'setup containerd --cri']], upgraded.said);
  assert.equal(readlinkSync(at('usr/lib/nymph/current')), 'versions/0.2.0-bbbb');
  assert.ok(existsSync(at('usr/lib/nymph/versions/0.1.0-aaaa')), 'the way back is there');
  set('upgrade-status', '7');
  const refused = run('install');
  assert.deepEqual([refused.status, refused.did], [7, ['upgrade']], refused.said);
});

test('a changed configuration restarts the service; containerd is left alone where that is wished', (t) => {
  const { at, version, set, run } = stage(t);
  version('0.1.0-aaaa');
  run('install');
  set('runs', '0.1.0-aaaa');
  set('written', 'true');
  writeFileSync(at('config', 'config.toml'), '[cache]\nquota = "2GiB"\n');
  const changed = run('install', { CONTAINERD: 'none' });
  assert.deepEqual([changed.status, changed.did], [0, ['systemctl restart nymph']], changed.said);
  assert.deepEqual(run('install', { CONTAINERD: 'configure' }).did, ['setup containerd --cri']);
  assert.equal(run('install', { CONTAINERD: 'maybe' }).status, 2);
});

test('removing takes containerd’s lines back first; a node without systemd is refused', (t) => {
  const { at, version, set, run } = stage(t);
  version('0.1.0-aaaa');
  run('install');
  set('written', 'true');
  const removed = run('remove');
  assert.deepEqual(removed.did, ['setup containerd --undo', 'systemctl restart containerd'], removed.said);
  assert.equal(existsSync(at('usr/lib/nymph')), false);
  assert.ok(existsSync(at('etc/nymph/config.toml')));
  rmSync(at('state', 'systemd'));
  const { status, said } = run('install');
  assert.equal(status, 1);
  assert.match(said, /systemd/);
  assert.equal(run('something').status, 2);
});

test('pull secrets follow those that the kubelet has mounted, readable by root only', async (t) => {
  const { at, run, env } = stage(t);
  mkdirSync(at('secrets/team-a'), { recursive: true });
  writeFileSync(at('secrets/team-a/.dockerconfigjson'), '{"auths":{}}');
  mkdirSync(at('node/secrets/gone'), { recursive: true });
  assert.equal(run('keep').status, 0);
  const copy = at('node/secrets/team-a/.dockerconfigjson');
  assert.equal(readFileSync(copy, 'utf8'), '{"auths":{}}');
  assert.equal(existsSync(at('node/secrets/gone')), false);
  // A pod that is ended ends at once, and not when it next would have looked.
  rmSync(copy);
  const child = spawn('sh', [SCRIPT, 'keep'], { env: { ...env, SECRETS_EVERY: '3600' }, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  // It has begun once it has copied what is there.
  while (!existsSync(copy)) await sleep(20);
  child.kill('SIGTERM');
  assert.equal(await ended, 0);
});
