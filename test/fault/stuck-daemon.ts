/**
 * A daemon for `own-lookup.test.ts`, started by the supervisor: in its first life it takes a LOOKUP and never answers it;
 * in its second it answers and ends.
 */
import { writeFileSync } from 'node:fs';
import koffi from 'koffi';
import { FUSE_FD, INHERITED_ENV } from '../../src/daemon/supervision.ts';
import { supervisorLink } from '../../src/daemon/supervisor-link.ts';
import type { FileSystem } from '../../src/fuse/driver.ts';
import { createKernelDriver } from '../../src/fuse/kernel-driver.ts';
import { mountFuse } from '../../src/mount/fuse.ts';

/** FUSE threads block in the kernel: exit(3) would wait for them. */
const exitNow = koffi.load('libc.so.6').func('void _exit(int status)');
const [directory, marks] = process.argv.slice(2);
const second = process.env[INHERITED_ENV] === '1';
const supervisor = supervisorLink({
  next: () => {
    throw new Error('the supervisor lives');
  },
  successor: false,
  trees: false,
  onAbandoned: () => exitNow(1),
  onWatching: () => {},
  onGone: () => exitNow(1),
});
const fileSystem: FileSystem = {
  lookup() {
    writeFileSync(`${marks}/${second ? 'answered' : 'asked'}`, String(process.pid));
    // The thread that would answer is busy for ever.
    if (!second) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    setTimeout(() => exitNow(0), 200);
    return undefined;
  },
  getattr: (ino) => ({ ino, mode: 0o40755, nlink: 2, uid: 0, gid: 0, rdev: 0, size: 0, mtime: 0, mtimeNs: 0 }),
  readdir: () => true,
  read: () => Promise.reject(new Error('there is no file')),
  reached() {},
};

if (!second) await mountFuse(FUSE_FD, directory);
supervisor.tell({ type: 'mounted' });
const driver = createKernelDriver({ fuseFd: FUSE_FD, threads: 1, inherited: second, log: () => {}, onEnd: () => {} });
await driver.start(fileSystem);
supervisor.tell({ type: 'ready' });
if (!second) await supervisor.lookUp([`${directory}/name`]);
