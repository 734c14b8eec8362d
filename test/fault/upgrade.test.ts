/** Another version takes over from the daemon that runs, while everybody reads; and versions that cannot. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { EXIT } from '../../src/exit-status.ts';
import { kernelHasPassthrough } from '../../src/fuse/backing.ts';
import { cannotMount, isAlive, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { PROJECT } from '../fixtures.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startReaders } from '../readers.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { makeBigFile, makeManyFiles } from '../tree.ts';

/** A good version may be slow, on a machine that is busy. */
const PATIENTLY = ['--within', '5m'];

describe('nymph upgrade', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  let registry: TestRegistry;
  before(async () => {
    image = await makeImage(directory, 'made', (tree) => {
      mkdirSync(join(tree, 'many'));
      makeManyFiles(join(tree, 'many'), { count: 200, seed: 1 });
      makeBigFile(join(tree, 'big'), 24 << 20, 1);
    });
    registry = await startRegistry({ layouts: { made: image.layout } });
  });
  after(async () => {
    await registry.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** The present sources under another number; `changed` are files that differ. */
  function version(number: string, changed: Record<string, string> = {}): string {
    const tree = join(directory, number);
    for (const path of ['bin', 'src', 'proto', 'plugins'])
      cpSync(join(PROJECT, path), join(tree, path), { recursive: true });
    symlinkSync(join(PROJECT, 'node_modules'), join(tree, 'node_modules'));
    const own = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
    writeFileSync(join(tree, 'package.json'), JSON.stringify({ ...own, version: number }));
    for (const [path, text] of Object.entries(changed)) writeFileSync(join(tree, path), text);
    return tree;
  }

  /** Serves the image by EROFS on `image`, and as a FUSE tree on `tree` if that is wanted. */
  async function served(t: { after(clean: () => Promise<void>): void }, asTree = false): Promise<TestDaemon> {
    const daemon = await testDaemon(t, { toml: `[registry]\nplain_http = ["${registry.host}"]\n` });
    for (const via of asTree ? (['erofs', 'fuse'] as const) : (['erofs'] as const))
      await daemon.client.mount({
        reference: `${registry.host}/made:made`,
        directory: daemon.place(via === 'fuse' ? 'tree' : 'image'),
        options: { prefetch: 'none', via },
      });
    return daemon;
  }

  const readThrough = (daemon: TestDaemon) =>
    until(60_000, 'nobody reads', async () => {
      const { fuse } = await daemon.client.status();
      return fuse.hits + fuse.faults > 0 ? true : undefined;
    });

  /** @returns the sources of the first release; undefined where its tag is not at hand */
  function firstRelease(): string | undefined {
    // Unpacked into the checkout of another project, its tags would be found.
    if (!existsSync(join(PROJECT, '.git'))) return undefined;
    const git = (...args: string[]) => spawnSync('git', ['-C', PROJECT, ...args], { maxBuffer: 1 << 30 });
    const [tag] = String(git('tag', '--list', 'v*', '--sort=version:refname').stdout ?? '').split('\n');
    if (tag === '') return undefined;
    const tree = join(directory, tag);
    mkdirSync(tree);
    const { stdout, status } = git('archive', '--format=tar', tag);
    assert.equal(status, 0);
    assert.equal(spawnSync('tar', ['-xf', '-', '-C', tree], { input: stdout }).status, 0);
    symlinkSync(join(PROJECT, 'node_modules'), join(tree, 'node_modules'));
    return tree;
  }

  test('to another version and back: no read fails, and its own supervisor watches it', (t) =>
    thereAndBack(t, version('9.0.0'), '9.0.0', true));

  test('to the first release, and from it to what is here', (t) => {
    const tree = firstRelease();
    if (tree === undefined) return t.skip('no tag of a release is here');
    return thereAndBack(t, tree, JSON.parse(readFileSync(join(tree, 'package.json'), 'utf8')).version);
  });

  async function thereAndBack(t: TestContext, other: string, number: string, asTree = false): Promise<void> {
    const daemon = await served(t, asTree);
    const first = await daemon.supervised();
    const readers = startReaders(t, image.truth, daemon.place('image'), { readers: 4 });
    const ofTree = asTree ? startReaders(t, image.truth, daemon.place('tree'), { readers: 2 }) : undefined;
    let last = first;
    for (const tree of [other, PROJECT]) {
      await readThrough(daemon);
      const { status, err, json } = await daemon.nymph('upgrade', tree, ...PATIENTLY);
      assert.equal(status, 0, err);
      const now = await until(60_000, 'no supervisor of its own', async () => {
        const health = await daemon.supervised();
        const command = readFileSync(`/proc/${health.supervisor}/cmdline`, 'utf8');
        return command.includes(`${tree}/`) && health.supervisor !== last.supervisor ? health : undefined;
      });
      assert.equal(now.installed, tree);
      assert.equal((json as { pid: number }).pid, now.pid);
      assert.equal(now.version, tree === other ? number : first.version);
      await until(30_000, 'those of the other version stay', async () =>
        isAlive(last.pid) || isAlive(last.supervisor!) ? undefined : true,
      );
      last = now;
    }
    // Whoever watches it now starts it again.
    await daemon.kill('daemon');
    const again = await daemon.another(last.pid);
    assert.equal(again.installed, PROJECT);
    await readThrough(daemon);
    for (const some of [readers, ofTree]) {
      const seen = await some?.stop();
      if (seen === undefined) continue;
      assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
      assert.ok(seen.reads > 0);
    }
    await daemon.stop();
  }

  test('to versions that cannot: those that do not get ready change nothing, after the others the old one is back', async (t) => {
    const daemon = await served(t);
    const readers = startReaders(t, image.truth, daemon.place('image'), { readers: 4 });
    await readThrough(daemon);
    const before = await daemon.supervised();
    const main = 'src/daemon/main.ts';
    const quiet = { ...before, uptime: 0 };

    for (const [number, changed, within, said] of [
      ['9.1.0', { [main]: 'process.exit(3);' }, '5m', /it ended \(3\) before it could begin/],
      ['9.2.0', { [main]: 'setInterval(() => {}, 1000);' }, '1s', /not there within 1 s, before it could begin/],
      ['9.3.0', { 'bin/nymph': '#!/bin/sh\necho broken >&2\nexit 1\n' }, '5m', /cannot take over: broken/],
      [
        '9.4.0',
        {
          'src/daemon/formats.ts': `export const FORMATS = { catalogue: 99 };
            export const differentFormats = () => undefined;`,
        },
        '5m',
        /in another format: catalogue 2 and 99/,
      ],
    ] as [string, Record<string, string>, string, RegExp][]) {
      const { status, err } = await daemon.nymph('upgrade', version(number, changed), '--within', within);
      assert.notEqual(status, 0);
      assert.match(err, said);
      assert.deepEqual({ ...(await daemon.client.health()), uptime: 0 }, quiet, 'the daemon was not touched');
    }

    const ready = `process.on('message', ({ type }) => { if (type === 'take-over') begin(); });
      process.send?.({ type: 'prepared' });`;
    for (const [number, begin, within, said] of [
      ['9.5.0', 'process.exit(4)', '5m', 'it ended (4) before it served'],
      ['9.6.0', 'setInterval(() => {}, 1000)', '2s', 'not there within 2 s, before it served'],
    ]) {
      const { pid } = await daemon.client.health();
      const tree = version(number, { [main]: `const begin = () => ${begin};\n${ready}` });
      const { status, err } = await daemon.nymph('upgrade', tree, '--within', within);
      assert.equal(status, EXIT.daemon, err);
      assert.match(err, new RegExp(`${number} in .* did not take over; ${before.version} serves again`));
      const back = await daemon.supervised();
      assert.equal(back.installed, before.installed);
      assert.notEqual(back.pid, pid);
      assert.equal(back.supervisor, before.supervisor);
      assert.equal((await daemon.told(said)).length, 1);
      await readThrough(daemon);
    }

    // It could begin, but knows nothing of the second connection.
    const { pid } = await daemon.client.health();
    await daemon.client.mount({
      reference: `${registry.host}/made:made`,
      directory: daemon.place('tree'),
      options: { via: 'fuse' },
    });
    if (kernelHasPassthrough()) {
      const { status, err } = await daemon.nymph('upgrade', version('9.7.0', { [main]: ready }), ...PATIENTLY);
      assert.notEqual(status, 0);
      assert.match(err, /it does not know of a second connection/);
      assert.equal((await daemon.client.health()).pid, pid);
    }

    const seen = await readers.stop();
    assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    await daemon.stop();
  });

  test('while the second connection is mounted: what was told otherwise does not take over', async (t) => {
    if (!kernelHasPassthrough()) return t.skip('needs Linux 6.9: before, there is one connection');
    const daemon = await served(t);
    const before = await daemon.supervised();
    const [begun, gate] = ['begun', 'gate'].map((name) => join(daemon.directory, name));
    const main = 'src/daemon/main.ts';
    const waits = `import { existsSync as isThere, writeFileSync as write } from 'node:fs';
      write(${JSON.stringify(begun)}, '');
      while (!isThere(${JSON.stringify(gate)})) await new Promise((resolve) => setTimeout(resolve, 50));\n`;
    const source = readFileSync(join(PROJECT, main), 'utf8');
    const tree = version('9.8.0', { [main]: waits + source });
    const upgrading = daemon.nymph('upgrade', tree, ...PATIENTLY);
    await until(60_000, 'the other version does not start', async () => existsSync(begun) || undefined);
    await daemon.client.mount({
      reference: `${registry.host}/made:made`,
      directory: daemon.place('tree'),
      options: { prefetch: 'none', via: 'fuse' },
    });
    const readers = startReaders(t, image.truth, daemon.place('tree'), { readers: 2 });
    writeFileSync(gate, '');
    const { status, err } = await upgrading;
    assert.equal(status, EXIT.daemon, err);
    assert.match(err, /did not take over/);
    const after = await daemon.another(before.pid);
    assert.equal(after.installed, before.installed);
    await readThrough(daemon);
    const seen = await readers.stop();
    assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    assert.equal((await daemon.nymph('upgrade', tree, ...PATIENTLY)).status, 0, 'it can when it is asked again');
    await daemon.stop();
  });
});
