import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { nodeLimits } from '../../src/daemon/node-limits.ts';
import { describe as describeOpenFiles } from '../../src/daemon/open-files.ts';
import { boundsFor } from '../../src/fetch/policy.ts';

const GIB = 2 ** 30;

/** Limits of a machine with 8 CPUs and 16 GiB whose files are these. */
function limitsWith(t: TestContext, files: Record<string, string>) {
  const root = mkdtempSync(join(tmpdir(), 'nymph-cgroup-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return nodeLimits(root, 8, 16 * GIB);
}

const V2 = '25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n';

test('version 2: the strictest of the cgroup and those above it', (t) => {
  const limits = limitsWith(t, {
    'proc/self/cgroup': '0::/system.slice/nymph.service\n',
    'proc/self/mountinfo': V2,
    'sys/fs/cgroup/system.slice/nymph.service/memory.max': 'max\n',
    'sys/fs/cgroup/system.slice/nymph.service/memory.high': `${2 * GIB}\n`,
    'sys/fs/cgroup/system.slice/nymph.service/cpu.max': 'max 100000\n',
    'sys/fs/cgroup/system.slice/memory.max': `${4 * GIB}\n`,
    'sys/fs/cgroup/system.slice/cpu.max': '150000 100000\n',
  });
  assert.deepEqual(limits, { cpus: 2, memory: 2 * GIB, cgroup: ['cpus', 'memory'] });
});

test('version 2 in a container, whose cgroup is the root of the mount', (t) => {
  const limits = limitsWith(t, {
    'proc/self/cgroup': '0::/kubepods/pod1/c\n',
    'proc/self/mountinfo': '25 1 0:22 /kubepods/pod1/c /sys/fs/cgroup ro - cgroup2 cgroup ro\n',
    'sys/fs/cgroup/memory.max': `${GIB / 2}\n`,
    'sys/fs/cgroup/cpu.max': '50000 100000\n',
  });
  assert.deepEqual(limits, { cpus: 1, memory: GIB / 2, cgroup: ['cpus', 'memory'] });
});

test('version 1, a tree for each controller, beside an empty tree of version 2', (t) => {
  const limits = limitsWith(t, {
    'proc/self/cgroup': '4:memory:/a/b\n1:cpu,cpuacct:/a\n0::/\n',
    'proc/self/mountinfo': `${V2}35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n`,
    'cg/memory/a/b/memory.limit_in_bytes': '9223372036854771712\n',
    'cg/memory/a/memory.limit_in_bytes': `${GIB}\n`,
    'cg/cpu/a/cpu.cfs_quota_us': '300000\n',
    'cg/cpu/a/cpu.cfs_period_us': '100000\n',
  });
  assert.deepEqual(limits, { cpus: 3, memory: GIB, cgroup: ['cpus', 'memory'] });
});

test('what cannot be read limits nothing, nor does what makes no sense', (t) => {
  assert.deepEqual(limitsWith(t, {}), { cpus: 8, memory: 16 * GIB, cgroup: [] });
  const odd = limitsWith(t, {
    'proc/self/cgroup': 'x\n0::/../..\n:::\n',
    'proc/self/mountinfo': `\n - \n1 2 - cgroup2\n${V2}`,
    'sys/fs/cgroup/memory.max': 'lots\n',
    'sys/fs/cgroup/cpu.max': '-1\n',
  });
  assert.deepEqual(odd, { cpus: 8, memory: 16 * GIB, cgroup: [] });
});

test('a process in a real cgroup of version 1', (t) => {
  const directory = `/sys/fs/cgroup/memory/nymph-test-${process.pid}`;
  try {
    mkdirSync(directory);
  } catch (error) {
    return t.skip(`no memory cgroup can be made here: ${(error as Error).message}`);
  }
  t.after(() => rmdirSync(directory));
  writeFileSync(join(directory, 'memory.limit_in_bytes'), String(300 << 20));
  const script = `
    require('node:fs').writeFileSync(${JSON.stringify(join(directory, 'cgroup.procs'))}, String(process.pid));
    import(${JSON.stringify(new URL('../../src/daemon/node-limits.ts', import.meta.url).href)})
      .then(({ nodeLimits }) => console.log(JSON.stringify(nodeLimits())));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  const limits = JSON.parse(stdout || stderr);
  assert.equal(limits.memory, 300 << 20);
  assert.ok(limits.cgroup.includes('memory'));
});

test('little memory makes buffers and lines shorter; much changes nothing', () => {
  assert.deepEqual(boundsFor(16 * GIB, 64), { backlog: 32 << 20, concurrency: 64 });
  assert.deepEqual(boundsFor(GIB / 2, 64), { backlog: 16 << 20, concurrency: 64 });
  assert.deepEqual(boundsFor(GIB / 4, 64), { backlog: 8 << 20, concurrency: 32 });
  assert.deepEqual(boundsFor(1 << 20, 64), { backlog: 4 << 20, concurrency: 8 });
  assert.equal(boundsFor(1 << 20, 2).concurrency, 2);
});

test('the limit of open files is raised as far as the process may, and what is too low says what is needed', () => {
  assert.match(describeOpenFiles(1024).low ?? '', /LimitNOFILE/);
  assert.equal(describeOpenFiles(100_000).low, undefined);
  const script = `
    import(${JSON.stringify(new URL('../../src/daemon/open-files.ts', import.meta.url).href)})
      .then(({ raiseOpenFiles }) => console.log(JSON.stringify(raiseOpenFiles())));`;
  const command = 'ulimit -S -n 256; ulimit -H -n 4000; exec "$0" -e "$1"';
  const args = ['-c', command, process.execPath, script];
  const { stdout, stderr } = spawnSync('/bin/bash', args, { encoding: 'utf8' });
  const { limit } = JSON.parse(stdout || stderr);
  const most = Math.min(1_048_576, Number(readFileSync('/proc/sys/fs/nr_open', 'latin1')));
  // Root without CAP_SYS_RESOURCE may not.
  assert.ok(limit === most || limit === 4000, String(limit));
});
