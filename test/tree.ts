/**
 * Source trees for tests: real files on disk, the same for the same seed.
 * Times are set, so a manifest of the tree is right for every image that is built from it.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { listTree } from './manifest/list.ts';
import { randomSeries } from './manifest/read.ts';
import { setXattr } from './manifest/xattr.ts';

const TIME = 1_700_000_000;

/** `size` bytes that look like text: they compress to about a third. */
export function textBytes(size: number, seed: number): Buffer {
  const random = randomSeries(seed);
  const words = Array.from({ length: 256 }, () => Math.floor(random() * 0xffffff).toString(36));
  const out = Buffer.alloc(size);
  for (let at = 0; at < size; ) at += out.write(`${words[Math.floor(random() * 256)]} `, at, 'latin1');
  return out;
}

/** `size` bytes that do not compress. */
export function noiseBytes(size: number, seed: number): Buffer {
  const random = randomSeries(seed);
  const out = Buffer.allocUnsafe(size);
  let at = 0;
  for (; at + 4 <= size; at += 4) out.writeUInt32LE(Math.floor(random() * 0x100000000), at);
  for (; at < size; at++) out[at] = Math.floor(random() * 256);
  return out;
}

export interface ManyFiles {
  count: number;
  /** Largest file in bytes; sizes are spread over 0…maxSize with most of them small. Default 8192. */
  maxSize?: number;
  /** Files a directory. Default 100. */
  perDirectory?: number;
  seed?: number;
}

/**
 * Many small files: `dNNN/fNNNNN`, text.
 * @param root an existing directory
 */
export function makeManyFiles(root: string, shape: ManyFiles): void {
  const { count, maxSize = 8192, perDirectory = 100, seed = 1 } = shape;
  const random = randomSeries(seed);
  for (let i = 0; i < count; i++) {
    const directory = join(root, `d${String(Math.floor(i / perDirectory)).padStart(3, '0')}`);
    if (i % perDirectory === 0) mkdirSync(directory);
    const file = join(directory, `f${String(i).padStart(5, '0')}`);
    writeFileSync(file, textBytes(Math.floor(random() ** 2 * (maxSize + 1)), seed * 1_000_003 + i));
    lutimesSync(file, TIME + i, TIME + i);
    if (i % perDirectory === perDirectory - 1 || i === count - 1) lutimesSync(directory, TIME, TIME);
  }
}

/** One file of `size` bytes: every fourth MiB does not compress, the rest is text. No two MiB are equal. */
export function makeBigFile(path: string, size: number, seed = 1): void {
  const MIB = 1 << 20;
  const text = textBytes(MIB, seed);
  const noise = noiseBytes(MIB, seed);
  const fd = openSync(path, 'w');
  for (let at = 0, i = 0; at < size; at += MIB, i++) {
    const piece = i % 4 === 3 ? noise : text;
    // A stamp every 4 KiB makes each block one of a kind.
    for (let stamp = 0; stamp < MIB; stamp += 4096) piece.writeDoubleLE(seed * 2 ** 33 + at + stamp, stamp);
    writeSync(fd, piece, 0, Math.min(MIB, size - at), at);
  }
  closeSync(fd);
  lutimesSync(path, TIME, TIME);
}

export interface Kinds {
  /** Devices and the attributes `trusted.*` and `security.*` need root. Default: whether we are root. */
  privileged?: boolean;
  /** Sockets, fifos and devices. Default true. */
  special?: boolean;
}

/**
 * Every kind of inode that a RAFS image can hold.
 * @param root an existing directory on a file system with extended attributes and 64-bit times
 */
export function makeKinds(root: string, options: Kinds = {}): void {
  const { privileged = process.getuid!() === 0, special = true } = options;
  const at = (...parts: string[]): string => join(root, ...parts);
  const put = (name: string, content: string | Buffer = '', mode = 0o644): void => {
    writeFileSync(at(name), content);
    chmodSync(at(name), mode);
  };

  put('empty');
  put('one-byte', 'x');
  for (const directory of ['sizes', 'dup', 'hard', 'links', 'modes', 'names', 'times', 'xattr', 'empty-dir', 'wide'])
    mkdirSync(at(directory));
  for (const size of [4095, 4096, 4097, 65535, 65536, 65537, 1048575, 1048576, 1048577, 2097152, 3145729])
    put(`sizes/text-${size}`, textBytes(size, size));
  put('sizes/noise-3000001', noiseBytes(3_000_001, 7));
  put('sizes/zeros-2097152', Buffer.alloc(2_097_152));
  sparse(at('sizes/sparse'), 9 << 20);

  const shared = noiseBytes(1_500_000, 11);
  put('dup/a', shared);
  put('dup/b', shared);
  put('dup/tail-differs', Buffer.concat([shared.subarray(0, 1_048_576), noiseBytes(5000, 12)]));

  put('hard/first', 'one inode, three names');
  linkSync(at('hard/first'), at('hard/second'));
  linkSync(at('hard/first'), at('links/third'));
  symlinkSync('hard/first', at('hard/symlink'));
  linkSync(at('hard/symlink'), at('hard/symlink-too'));

  symlinkSync('../one-byte', at('links/relative'));
  symlinkSync('/nowhere', at('links/dangling'));
  symlinkSync('x'.repeat(4095), at('links/longest'));
  symlinkSync('y'.repeat(4040), at('links/nearly-a-block'));
  symlinkSync(Buffer.from('caf\xe9', 'latin1'), Buffer.from(at('links/target-not-utf8')));

  put('modes/setuid', 's', 0o4755);
  put('modes/setgid', 's', 0o2755);
  put('modes/none', 'n', 0o000);
  put('modes/all', 'a', 0o7777);
  mkdirSync(at('modes/sticky'));
  chmodSync(at('modes/sticky'), 0o1777);
  if (privileged) {
    put('modes/owner', 'o');
    chownSync(at('modes/owner'), 70_000, 4_000_000_000);
  }

  put(`names/${'n'.repeat(255)}`, 'longest name');
  put('names/with space, "quotes" and \n newline', 'odd');
  put('names/日本語', 'utf-8');
  put('names/-rf', 'dash');
  put('names/.hidden', 'dot');
  put('names/..almost-parent', 'dots');
  writeFileSync(Buffer.concat([Buffer.from(`${at('names')}/`), Buffer.from([0xff, 0xfe, 0x41])]), 'not utf-8');
  for (let i = 0; i < 600; i++) put(`wide/${'w'.repeat(i % 40)}-${i}`, i % 3 === 0 ? '' : `file ${i}`);
  let deep = at('deep');
  for (let i = 0; i < 60; i++) {
    mkdirSync(deep);
    if (i === 59) writeFileSync(join(deep, 'bottom'), 'deep');
    deep = join(deep, `d${i}`);
  }

  for (const [name, value] of [
    ['user.text', 'value'],
    ['user.empty', ''],
    ['user.long', 'v'.repeat(1000)],
  ] as const)
    setXattr(Buffer.from(at('one-byte')), name, Buffer.from(value));
  put('xattr/file', 'with attributes');
  setXattr(Buffer.from(at('xattr/file')), 'user.binary', Buffer.from([0, 1, 2, 255]));
  setXattr(Buffer.from(at('xattr')), 'user.directory', Buffer.from('yes'));
  put('xattr/nearly-a-block', 'x');
  setXattr(Buffer.from(at('xattr/nearly-a-block')), 'user.big', Buffer.alloc(3000, 'b'));
  if (privileged) {
    setXattr(Buffer.from(at('xattr/file')), 'trusted.overlay.opaque', Buffer.from('y'));
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    setXattr(Buffer.from(at('xattr/file')), 'security.capability', capability);
    symlinkSync('file', at('xattr/link'));
    setXattr(Buffer.from(at('xattr/link')), 'trusted.on-a-link', Buffer.from('l'));
  }

  if (special) makeSpecial(root, privileged);
  setTimes(root);
}

const S_IFSOCK = 0o140000;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

function makeSpecial(root: string, privileged: boolean): void {
  const mknod = koffi.load('libc.so.6').func('int mknod(const char *path, uint32_t mode, uint64_t device)');
  const make = (name: string, mode: number, device = 0n): void => {
    if ((mknod(join(root, 'special', name), mode, device) as number) !== 0)
      throw new Error(`mknod ${name}: errno ${koffi.errno()}`);
  };
  mkdirSync(join(root, 'special'));
  make('fifo', S_IFIFO | 0o600);
  make('socket', S_IFSOCK | 0o600);
  if (!privileged) return;
  make('whiteout', S_IFCHR, 0n);
  make('null', S_IFCHR | 0o600, (1n << 8n) | 3n);
  make('disk', S_IFBLK | 0o600, (8n << 8n) | 17n);
  // major 259, minor 70000: needs the upper bits of both
  make('big-numbers', S_IFBLK | 0o600, (259n << 8n) | (70000n & 0xffn) | ((70000n & ~0xffn) << 12n));
}

function sparse(path: string, size: number): void {
  const fd = openSync(path, constants.O_CREAT | constants.O_WRONLY, 0o644);
  ftruncateSync(fd, size);
  writeSync(fd, Buffer.from('in the middle of nothing'), 0, 24, size / 2 + 123);
  closeSync(fd);
}

/** Times, last because every change of a directory changes its time. */
function setTimes(root: string): void {
  for (const { path } of [...listTree(root)]) lutimesSync(path, TIME, TIME);
  for (const [name, seconds] of [
    ['epoch', 0],
    ['first-second', 1],
    ['before-1970', -1_000_000_000],
    ['half-second', TIME + 0.5],
    ['after-2038', 4_200_000_000],
    ['after-2106', 5_000_000_000],
  ] as const) {
    // As a Date, because Node takes a negative number for the present.
    const time = new Date(seconds * 1000);
    writeFileSync(join(root, 'times', name), name);
    lutimesSync(join(root, 'times', name), time, time);
  }
  lutimesSync(join(root, 'times'), TIME, TIME);
}
