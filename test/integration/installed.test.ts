/** What `make install` puts on a machine, without npm, compiler or another Node, and run by a real systemd. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { controlClient } from '../../src/daemon/control-client.ts';
import { kernelHasPassthrough } from '../../src/fuse/backing.ts';
import { run, until } from '../daemon.ts';
import { PROJECT } from '../fixtures.ts';
import { ask } from '../http.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startReaders } from '../readers.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { cannotStage, stage } from '../staged.ts';
import { bootSystemd, cannotBoot, type Systemd } from '../systemd/systemd.ts';
import { makeBigFile, makeManyFiles } from '../tree.ts';

/** Programs of any Debian that `bin/nymph` and the daemon call. */
const PROGRAMS = ['sh', 'readlink', 'find', 'head', 'mount', 'umount'];

describe('an installation', { skip: cannotStage() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  const prefix = join(directory, 'usr');
  const nymph = join(prefix, 'bin', 'nymph');
  let image: MadeImage;
  let registry: TestRegistry;
  before(async () => {
    const staged = join(directory, 'staged');
    await stage(staged);
    execFileSync('sh', [join(staged, 'deploy', 'install.sh'), '--prefix', '/usr', '--destdir', directory]);
    image = await makeImage(directory, 'made', (tree) => {
      mkdirSync(join(tree, 'many'));
      makeManyFiles(join(tree, 'many'), { count: 100, seed: 1 });
      makeBigFile(join(tree, 'big'), 16 << 20, 1);
    });
    registry = await startRegistry({ layouts: { made: image.layout } });
  });
  after(async () => {
    await registry.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test('has a list of its components, and nothing for development', () => {
    const tree = join(prefix, 'lib', 'nymph', readlinkSync(join(prefix, 'lib', 'nymph', 'current')));
    const components = JSON.parse(readFileSync(join(tree, 'sbom.cdx.json'), 'utf8'));
    const names: string[] = components.components.map(({ name }: { name: string }) => name);
    for (const name of ['node', 'koffi', 'undici', 'better-sqlite3']) assert.ok(names.includes(name), name);
    const there = readdirSync(join(tree, 'node_modules'));
    for (const name of ['typescript', '@biomejs', '@bytecodealliance', '@types'])
      assert.ok(!names.includes(name) && !there.includes(name), name);
  });

  test('mounts without npm or another Node, twice at the same time, and goes without a trace', async (t) => {
    const path = join(directory, 'path');
    mkdirSync(path);
    for (const name of PROGRAMS)
      symlinkSync(execFileSync('which', [name], { encoding: 'utf8' }).trim(), join(path, name));
    const place = join(directory, 'alone');
    mkdirSync(place);
    const globals = ['--root', join(place, 'root'), '--address', join(place, 'c.sock')];
    const alone = async (...args: string[]) => {
      const outcome = await run('env', ['-i', `PATH=${path}`, nymph, ...globals, ...args]);
      assert.equal(outcome.status, 0, outcome.err);
      return outcome.out.toString();
    };
    t.after(() => run(nymph, [...globals, 'daemon', '--stop']));
    await alone('mount', `${registry.host}/made:made`, join(place, 'image'));
    await run('cmp', [join(image.truth, 'big'), join(place, 'image', 'big')]).then(({ status }) =>
      assert.equal(status, 0),
    );
    for (const path of ['/', '/metrics']) assert.equal((await ask(join(place, 'c.sock'), path)).status, 200, path);
    await alone('umount', join(place, 'image'));
    await alone('daemon', '--stop');

    const other = join(directory, 'other');
    const install = join(directory, 'staged', 'deploy', 'install.sh');
    execFileSync('sh', [install, '--destdir', other]);
    execFileSync('sh', [install, '--destdir', other]);
    assert.equal(readdirSync(join(other, 'usr/local/lib/nymph/versions')).length, 1);
    execFileSync('sh', [install, '--destdir', other, '--uninstall']);
    assert.equal(execFileSync('find', [other, '-not', '-type', 'd'], { encoding: 'utf8' }), '');
  });

  describe('under systemd', { skip: cannotBoot() }, () => {
    const place = join(directory, 'service');
    const client = controlClient(join(place, 'c.sock'));
    let systemd: Systemd;
    const cleaners: (() => Promise<void>)[] = [];
    const faults = async () => {
      const { fuse } = await client.status();
      return fuse.faults + fuse.hits;
    };
    /** Another daemon answers, and reads go through it. */
    const replaced = async (pid: number) => {
      const next = await until(60_000, 'no other daemon answers', async () => {
        const health = await client.health();
        return health.pid === pid ? undefined : health;
      });
      await until(60_000, 'nobody reads through it', async () => ((await faults()) > 0 ? true : undefined));
      await until(60_000, 'it is not active', async () =>
        (await systemd.property('nymph.service', 'ActiveState')) === 'active' ? true : undefined,
      );
      return next;
    };
    const pids = async () => {
      const { pid, supervisor } = await client.health();
      assert.ok(supervisor);
      return { pid, supervisor };
    };

    /** What is installed, under another number. */
    const version = (number: string) => {
      const tree = join(place, number);
      execFileSync('cp', ['-al', realpathSync(join(prefix, 'lib/nymph/current')), tree]);
      const own = readFileSync(join(tree, 'package.json'), 'utf8');
      rmSync(join(tree, 'package.json'));
      writeFileSync(join(tree, 'package.json'), JSON.stringify({ ...JSON.parse(own), version: number }));
      return tree;
    };

    before(async () => {
      mkdirSync(place);
      const config = join(place, 'config.toml');
      writeFileSync(
        config,
        `root = "${place}/root"\naddress = "${place}/c.sock"\n[registry]\nplain_http = ["${registry.host}"]\n`,
      );
      const verified = await run('systemd-analyze', ['verify', join(PROJECT, 'deploy/systemd/nymph.service')]);
      // The program is not where the unit says, on this machine.
      assert.equal(verified.err.replace(/^.*Command \/usr\/bin\/nymph is not executable.*\n/gm, ''), '');
      systemd = await bootSystemd({ after: (clean) => void cleaners.push(clean) }, place, {
        'test.target': '[Unit]\nDescription=test\n',
        'nymph.service': readFileSync(join(prefix, 'lib/systemd/system/nymph.service'), 'utf8'),
        'nymph.service.d/test.conf': `
[Unit]
DefaultDependencies=no
[Service]
ExecStart=
ExecStart=${nymph} --config ${config} daemon
StandardOutput=append:${place}/log
StandardError=append:${place}/log
WatchdogSec=15s
`,
      });
    });
    after(async () => {
      for (const clean of cleaners) await clean();
    });

    test('restarts, kills and hangs: readers wait, and none gets an error', async (t) => {
      await systemd.systemctl('start', 'nymph.service');
      assert.equal(
        await systemd.property('nymph.service', 'ActiveState'),
        'active',
        'systemctl has waited until it served',
      );
      const mounted = { erofs: join(place, 'image'), fuse: join(place, 'tree') };
      for (const via of ['erofs', 'fuse'] as const) {
        mkdirSync(mounted[via]);
        await client.mount({
          reference: `${registry.host}/made:made`,
          directory: mounted[via],
          options: { prefetch: 'none', via },
        });
      }
      const connections = kernelHasPassthrough() ? '2' : '1';
      await until(20_000, 'the connections are not kept', async () =>
        (await systemd.property('nymph.service', 'NFileDescriptorStore')) === connections ? true : undefined,
      );
      const readers = [mounted.erofs, mounted.fuse].map((directory) =>
        startReaders(t, image.truth, directory, { readers: 2, through: systemd.inside }),
      );
      await until(20_000, 'nobody reads', async () => ((await faults()) > 0 ? true : undefined));

      let last = await pids();
      await systemd.systemctl('restart', 'nymph.service');
      last = await replaced(last.pid).then(pids);
      await systemd.systemctl('restart', 'nymph.service');
      last = await replaced(last.pid).then(pids);
      // The supervisor and the daemon in the same instant.
      await systemd.systemctl('kill', '--signal=KILL', 'nymph.service');
      last = await replaced(last.pid).then(pids);
      await systemd.systemctl('kill', '--kill-who=main', '--signal=KILL', 'nymph.service');
      await until(60_000, 'no other supervisor', async () =>
        (await pids()).supervisor === last.supervisor ? undefined : true,
      );
      await until(60_000, 'it is not active', async () =>
        (await systemd.property('nymph.service', 'ActiveState')) === 'active' ? true : undefined,
      );
      last = await pids();
      // It hangs.
      await systemd.run('kill', '-STOP', String(last.pid));
      last = await replaced(last.pid).then(pids);

      const restarts = await systemd.property('nymph.service', 'NRestarts');
      const other = version('9.0.0');
      const { status, err } = await systemd.run(
        nymph,
        '--config',
        join(place, 'config.toml'),
        'upgrade',
        other,
        '--within',
        '5m',
      );
      assert.equal(status, 0, err);
      const { installed } = await replaced(last.pid);
      assert.equal(installed, other);
      const { supervisor } = await until(60_000, 'no supervisor of its own', async () => {
        const now = await pids();
        return now.supervisor === last.supervisor ? undefined : now;
      });
      const main = await systemd.property('nymph.service', 'MainPID');
      assert.equal(main, String(supervisor), 'the new supervisor is the one that systemd watches');
      assert.equal(await systemd.property('nymph.service', 'NRestarts'), restarts, 'and nothing was restarted for it');
      last = await pids();
      await systemd.systemctl('restart', 'nymph.service');
      await replaced(last.pid);

      for (const some of readers) {
        const seen = await some.stop();
        assert.deepEqual(seen.wrong, []);
        assert.deepEqual(seen.errors, {});
        assert.ok(seen.reads > 0);
      }
    });

    test('a stop ends reads with errors instead of keeping them waiting, and a start mounts anew', async () => {
      await systemd.systemctl('stop', 'nymph.service');
      const file = join(place, 'image', 'big');
      const dropped = await systemd.run('sh', '-c', `echo 3 >/proc/sys/vm/drop_caches; cat ${file} >/dev/null`);
      assert.notEqual(dropped.status, 0);
      await systemd.systemctl('start', 'nymph.service');
      for (const read of [file, join(place, 'tree', 'big')]) {
        const same = await systemd.run('cmp', join(image.truth, 'big'), read);
        assert.equal(same.status, 0, same.err);
      }
    });
  });
});
