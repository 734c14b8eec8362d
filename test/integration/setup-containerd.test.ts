import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'smol-toml';
import { criSettings, formatVersion, pluginsAt, unpackSnapshotters } from '../../src/containerd/config.ts';
import { parseVersion } from '../../src/containerd/version.ts';
import { NYMPH, run } from '../daemon.ts';

/** `nymph setup containerd` against what the containerd of this machine makes of a file. */

const found = spawnSync('containerd', ['--version']);
const skip = found.error ? 'not installed: containerd' : false;
const version = skip ? undefined : parseVersion(String(found.stdout).replace(/github\S*/, ''));

const DEBIAN = `version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
`;

const FILES: Record<string, () => string | undefined> = {
  'no file': () => undefined,
  'Debian’s file': () => DEBIAN,
  'all defaults': () => String(spawnSync('containerd', ['config', 'default']).stdout),
};

for (const [name, make] of Object.entries(FILES)) {
  test(`containerd understands what was written: ${name}`, { skip }, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'nymph-setup-'));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const file = join(directory, 'containerd.toml');
    const config = join(directory, 'nymph.toml');
    writeFileSync(config, `address = "${directory}/c.sock"\n`);
    const text = make();
    if (text !== undefined) writeFileSync(file, text);
    const setup = async (...args: string[]) => {
      const all = ['--json', '--config', config, 'setup', 'containerd', '--file', file, ...args];
      const { status, out, err } = await run(NYMPH, all);
      assert.equal(status, 0, err);
      return JSON.parse(out.toString());
    };

    const shown = await setup('--cri', '--dry-run');
    assert.deepEqual([shown.changed, shown.written], [true, false]);
    assert.match(shown.diff, /\+\[proxy_plugins\.nymph\]/);
    const done = await setup('--cri');
    assert.deepEqual([done.changed, done.written, done.notes, done.restarted], [true, true, [], false]);
    assert.equal(done.diff, shown.diff);
    assert.equal((await setup('--cri')).changed, false);

    const dump = spawnSync('containerd', ['--config', file, 'config', 'dump']);
    assert.equal(dump.status, 0, String(dump.stderr));
    const document = parse(String(dump.stdout));
    const address = join(directory, 'snapshotter.sock');
    assert.ok(pluginsAt(document, address).includes('nymph'));
    assert.equal(criSettings(document, version!.major).snapshotter, 'nymph');
    if (version!.major >= 2) assert.ok(unpackSnapshotters(document)!.includes('nymph'));
    else assert.equal(formatVersion(document), 2);

    await setup('--undo');
    if (text !== undefined) assert.equal(readFileSync(file, 'utf8'), text);
  });
}

test('what containerd does not accept is not written', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-setup-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'containerd.toml');
  const text = 'version = 2\nimports = ["broken.toml"]\n';
  writeFileSync(file, text);
  writeFileSync(join(directory, 'broken.toml'), 'version = [');
  const { status, err } = await run(NYMPH, ['setup', 'containerd', '--file', file]);
  assert.equal(status, 2, err);
  assert.match(err, /containerd does not accept/);
  assert.equal(readFileSync(file, 'utf8'), text);
});
