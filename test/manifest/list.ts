/** Lists a tree as the kernel shows it. Synchronous: never run it in the process that serves the tree. */
import { type Dirent, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { type Row, show } from './rows.ts';
import { xattrs } from './xattr.ts';

export interface Entry {
  /** Where the inode is in this process. */
  path: Buffer;
  /** Without `sha256`. */
  row: Row;
}

const S_IFMT = 0o170000;

/**
 * @param root the directory of the tree
 * @returns every inode, parents before their children, children by their bytes
 * @throws Error where a directory names a child with another type than the child has
 */
export function* listTree(root: string): Generator<Entry> {
  yield* walk(Buffer.from(root), Buffer.alloc(0), S_IFMT);
}

function* walk(path: Buffer, inside: Buffer, typeInDirectory: number): Generator<Entry> {
  const stat = lstatSync(path, { bigint: true });
  const mode = Number(stat.mode);
  const type = mode & S_IFMT;
  if (typeInDirectory !== S_IFMT && type !== typeInDirectory)
    throw new Error(
      `${path}: the directory says type 0o${typeInDirectory.toString(8)}, the inode 0o${type.toString(8)}`,
    );
  const isDirectory = type === 0o040000;
  const row: Row = {
    path: show(inside.length === 0 ? Buffer.from('/') : inside),
    mode: `0o${mode.toString(8)}`,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
  };
  if (inside.length > 0) {
    row.mtime = Number(stat.mtimeNs / 1_000_000_000n);
    row.mtimeNanoseconds = Number(((stat.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n);
  }
  if (!isDirectory) row.nlink = Number(stat.nlink);
  if (type === 0o100000) row.size = Number(stat.size);
  if (type === 0o120000) row.target = show(readlinkSync(path, 'buffer'));
  if (type === 0o020000 || type === 0o060000) row.rdev = [major(stat.rdev), minor(stat.rdev)];
  const attributes = xattrs(path);
  if (Object.keys(attributes).length > 0) row.xattrs = attributes;
  yield { path, row };
  if (!isDirectory) return;
  const children = readdirSync(path, { encoding: 'buffer', withFileTypes: true });
  children.sort((a, b) => Buffer.compare(a.name, b.name));
  const slash = Buffer.from('/');
  for (const child of children)
    yield* walk(Buffer.concat([path, slash, child.name]), Buffer.concat([inside, slash, child.name]), typeOf(child));
}

function typeOf(entry: Dirent<Buffer>): number {
  if (entry.isFile()) return 0o100000;
  if (entry.isDirectory()) return 0o040000;
  if (entry.isSymbolicLink()) return 0o120000;
  if (entry.isFIFO()) return 0o010000;
  if (entry.isSocket()) return 0o140000;
  if (entry.isCharacterDevice()) return 0o020000;
  if (entry.isBlockDevice()) return 0o060000;
  return S_IFMT;
}

// The C library's coding of a 64-bit dev_t.
const major = (device: bigint): number => Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n));
const minor = (device: bigint): number => Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n));
