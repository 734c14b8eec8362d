import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connectionNames } from '../../src/daemon/stored-descriptor.ts';

const module = fileURLToPath(new URL('../../src/daemon/stored-descriptor.ts', import.meta.url));

/** What a process finds that was handed two descriptors, 3 and 4, under these names. */
function found(names: string, wanted: Record<string, string>, pid = 'process.pid') {
  const directory = mkdtempSync('/tmp/nymph-');
  const fds = ['a', 'b'].map((file) => openSync(join(directory, file), 'w'));
  const script = `
    import { fstatSync } from 'node:fs';
    const { takeStored } = await import(${JSON.stringify(module)});
    const environment = { LISTEN_PID: String(${pid}), LISTEN_FDS: '2', LISTEN_FDNAMES: ${JSON.stringify(names)} };
    const fds = takeStored(environment, ${JSON.stringify(wanted)});
    const isOpen = (fd) => { try { return fstatSync(fd).isFile(); } catch { return false; } };
    console.log(JSON.stringify([fds, [3, 4].filter(isOpen), Object.keys(environment)]));`;
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script];
  const { stdout, stderr } = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe', ...fds] });
  for (const fd of fds) closeSync(fd);
  rmSync(directory, { recursive: true });
  assert.equal(stderr.toString(), '');
  return JSON.parse(stdout.toString());
}

test('of the descriptors that a service manager has kept, ours is taken and others are closed', () => {
  const wanted = { fuse: 'ours', trees: 'too' };
  assert.deepEqual(found('other:ours', wanted), [{ fuse: 4 }, [4], []]);
  assert.deepEqual(found('too:ours', wanted), [{ fuse: 4, trees: 3 }, [3, 4], []]);
  assert.deepEqual(found('ours:ours', wanted), [{ fuse: 4 }, [4], []], 'the newest');
  assert.deepEqual(found('other:another', wanted), [{}, [], []]);
});

test('what is meant for another process is left alone', () => {
  assert.deepEqual(found('ours:other', { fuse: 'ours' }, '1'), [{}, [3, 4], []]);
});

test('a connection of another root or mount point has another name, which systemd accepts', () => {
  const names = connectionNames('/var/lib/nymph', '/run/nymph/fs');
  for (const name of Object.values(names)) assert.match(name, /^[\x21-\x39\x3b-\x7e]{1,255}$/);
  assert.equal(new Set(Object.values(names)).size, 2);
  assert.deepEqual(names, connectionNames('/var/lib/nymph', '/run/nymph/fs'));
  for (const [root, mountpoint] of [
    ['/var/lib/other', '/run/nymph/fs'],
    ['/var/lib/nymph', '/run/other/fs'],
  ])
    for (const other of Object.values(connectionNames(root, mountpoint)))
      assert.ok(!Object.values(names).includes(other));
});
