import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parse } from 'smol-toml';
import { criSettings, pluginsAt, unpackSnapshotters } from '../../src/containerd/config.ts';
import { planChanges, type Wanted } from '../../src/containerd/plan.ts';
import { prepareSetup, writeSetup } from '../../src/containerd/setup.ts';
import { changeToml, restoreToml } from '../../src/containerd/toml-edit.ts';
import { atLeast, parseVersion } from '../../src/containerd/version.ts';

const directory = realpathSync(mkdtempSync(join(tmpdir(), 'nymph-setup-')));
after(() => rmSync(directory, { recursive: true, force: true }));

const ADDRESS = '/run/nymph/snapshotter.sock';
const wantedFor = (containerd: string, more: Partial<Wanted> = {}): Wanted => ({
  containerd: parseVersion(containerd)!,
  nerdctl: undefined,
  address: ADDRESS,
  root: '/var/lib/nymph',
  cri: true,
  ...more,
});

/** What containerd would have, by the version that it is. */
function outcome(text: string, wanted: Wanted) {
  const changed = changeToml(text, planChanges(parse(text), wanted));
  assert.equal(restoreToml(changed), text);
  assert.equal(changeToml(restoreToml(changed), planChanges(parse(restoreToml(changed)), wanted)), changed);
  const document = parse(changed);
  const { snapshotter, annotations } = criSettings(document, wanted.containerd.major);
  return {
    version: document.version,
    plugins: pluginsAt(document, ADDRESS),
    unpack: unpackSnapshotters(document),
    snapshotter,
    annotations,
  };
}

test('versions of programs', () => {
  const text = (line: string) => parseVersion(line.replace(/github\S*/, ''))?.text;
  assert.equal(text('containerd github.com/containerd/containerd/v2 2.1.9+unknown '), '2.1.9');
  assert.equal(text('containerd  1.6.20~ds1 1.6.20~ds1-1+deb12u3'), '1.6.20');
  assert.equal(text('containerd containerd.io v1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182'), '1.7.24');
  assert.equal(text('nerdctl version 2.2.0'), '2.2.0');
  assert.equal(text('2.3'), '2.3');
  assert.equal(text('none'), undefined);
  assert.deepEqual(
    ['1.7', '2.0', '2.1', '3.0'].map((one) => atLeast(parseVersion(one)!, 2, 1)),
    [false, false, true, true],
  );
});

test('what each version of containerd needs, from no file', () => {
  const plugins = ['nymph', 'nydus'];
  for (const version of ['1.6', '1.7'])
    assert.deepEqual(outcome('', wantedFor(version)), {
      version: 2,
      plugins,
      unpack: undefined,
      snapshotter: 'nymph',
      annotations: true,
    });
  const unpack = ['overlayfs', 'nymph', 'nydus'];
  assert.deepEqual(outcome('', wantedFor('2.0')), {
    version: 3,
    plugins,
    unpack,
    snapshotter: 'nymph',
    annotations: true,
  });
  for (const version of ['2.1', '2.3'])
    assert.deepEqual(outcome('', wantedFor(version)), {
      version: 3,
      plugins,
      unpack,
      snapshotter: 'nymph',
      annotations: false,
    });
  const without = outcome('', wantedFor('1.7', { cri: false }));
  assert.deepEqual([without.snapshotter, without.annotations], [undefined, false]);
});

test('a file in an older format, for a newer containerd', () => {
  const runtimes = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "x"\n';
  const text = `version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\n  snapshotter = "overlayfs"\n`;
  for (const more of ['', runtimes]) {
    const { version, snapshotter } = outcome(text + more, wantedFor('2.1'));
    assert.deepEqual([version, snapshotter], [2, 'nymph']);
  }
  // 2.x passes over these two keys where there are no runtimes: they have to stand in its own table.
  const images = 'plugins."io.containerd.cri.v1.images"';
  assert.ok(changeToml(text, planChanges(parse(text), wantedFor('2.1'))).includes(images));
  assert.ok(!changeToml(text + runtimes, planChanges(parse(text + runtimes), wantedFor('2.1'))).includes(images));
  assert.throws(() => outcome('version = 1\n', wantedFor('1.7')), { code: 'unsupported' });
  assert.throws(() => outcome('root = "/x"\n', wantedFor('1.7')), { code: 'unsupported' });
  assert.throws(() => outcome('version = 3\n', wantedFor('1.7')), { code: 'config' });
});

test('2.1 and later: labels are switched on where something keeps CRI from the transfer service', () => {
  for (const line of [
    'discard_unpacked_layers = true',
    'use_local_image_pull = true',
    'max_concurrent_downloads = 10',
    'registry.mirrors."docker.io".endpoint = ["x"]',
  ]) {
    const text = `version = 3\n[plugins."io.containerd.cri.v1.images"]\n  ${line}\n`;
    assert.equal(outcome(text, wantedFor('2.2')).annotations, true, line);
  }
  const harmless =
    'version = 3\n[plugins."io.containerd.cri.v1.images"]\n  max_concurrent_downloads = 3\n  registry.config_path = "x"\n';
  assert.equal(outcome(harmless, wantedFor('2.2')).annotations, false);
});

test('lists of the user get more; what is right already stays', () => {
  const list = (name: string) =>
    `[[plugins."io.containerd.transfer.v1.local".unpack_config]]\nsnapshotter = "${name}"\nplatform = "linux"\n`;
  const own = `version = 3\n${list('native')}`;
  assert.deepEqual(outcome(own, wantedFor('2.1')).unpack, ['native', 'nymph', 'nydus']);
  const done = `version = 3\n${list('nymph')}${list('nydus')}[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "nymph"\n`;
  const changed = changeToml(done, planChanges(parse(done), wantedFor('2.1')));
  assert.deepEqual(changed.slice(0, done.length), done);
});

test('the name for an old nerdctl: only if it is needed, and not one that somebody has', () => {
  const plugins = (text: string, more: Partial<Wanted>, containerd = '2.1') =>
    outcome(text, wantedFor(containerd, more)).plugins;
  assert.deepEqual(plugins('', { nerdctl: parseVersion('2.3.0') }), ['nymph']);
  assert.deepEqual(plugins('', { nerdctl: parseVersion('2.2.0') }), ['nymph', 'nydus']);
  assert.deepEqual(plugins('', { nerdctl: parseVersion('2.3.0') }, '1.7'), ['nymph', 'nydus']);
  const taken = 'version = 2\n[proxy_plugins.nydus]\ntype = "snapshot"\naddress = "/run/nydus.sock"\n';
  assert.deepEqual(plugins(taken, {}), ['nymph', 'overlaybd']);
});

test('the plugin that is switched off', () => {
  const text = 'version = 2\ndisabled_plugins = ["cri"]\n';
  assert.throws(() => outcome(text, wantedFor('1.7')), { code: 'config', message: /switched off/ });
  assert.deepEqual(outcome(text, wantedFor('1.7', { cri: false })).plugins, ['nymph', 'nydus']);
});

// No such containerd is installed, so that nothing is asked of one.
const OTHER = wantedFor('1.9');

test('the file: written whole, with mode and links; a copy of the former; undone to the byte', async () => {
  const real = join(directory, 'real.toml');
  const link = join(directory, 'config.toml');
  const text = '# mine\nversion = 2\n';
  writeFileSync(real, text);
  chmodSync(real, 0o640);
  symlinkSync(real, link);
  const setup = await prepareSetup(link, OTHER);
  assert.equal(readFileSync(real, 'utf8'), text, 'nothing is written yet');
  const { backup } = await writeSetup(setup, OTHER);
  assert.equal(readFileSync(backup!, 'utf8'), text);
  assert.equal(readFileSync(link, 'utf8'), setup.after);
  assert.equal(statSync(real).mode & 0o777, 0o640);
  assert.equal((await prepareSetup(link, OTHER)).after, setup.after, 'a second run changes nothing');
  const moved = await prepareSetup(link, { ...OTHER, address: '/run/other.sock' });
  assert.ok(!moved.after.includes(ADDRESS) && moved.after.includes('/run/other.sock'));
  // What the user adds later stays.
  writeFileSync(real, `${setup.after}# later\n`);
  await writeSetup(await prepareSetup(link, undefined), undefined);
  assert.equal(readFileSync(link, 'utf8'), `${text}# later\n`);
  assert.deepEqual(readdirSync(directory).sort(), ['config.toml', 'real.toml', 'real.toml.before-nymph']);
});

test('the file: made if it is not there, gone again when undone', async () => {
  const file = join(directory, 'new', 'config.toml');
  await writeSetup(await prepareSetup(file, OTHER), OTHER);
  assert.equal(parse(readFileSync(file, 'utf8')).version, 2);
  await writeSetup(await prepareSetup(file, undefined), undefined);
  assert.deepEqual(readdirSync(join(directory, 'new')), ['config.toml.before-nymph']);
});

test('the file: what is no TOML is told with its line', async () => {
  const file = join(directory, 'broken.toml');
  writeFileSync(file, 'version = 2\n[plugins\n');
  await assert.rejects(prepareSetup(file, OTHER), { code: 'config', message: /broken\.toml:2/ });
});
