/** What the FUSE threads would serve of a bootstrap, in the form of kernel-view.ts. */
import { crc32 } from 'node:zlib';
import { createReadyMap, setReady } from '../../src/cache/ready-map.ts';
import { ZEROS } from '../../src/fuse/driver.ts';
import { openTree, type Tree } from '../../src/fuse/tree.ts';
import { addExtent, type SeenExtent, type SeenFile } from './kernel-view.ts';
import { ensure } from './target.ts';

export const FIRST = 2 ** 47;
const FIRST_BLOB = 2 ** 20;
/** As large as a FUSE read. */
const READ = 1 << 20;
/** What is read of one file: places that are claimed to be terabytes apart are looked at by the kernel's view. */
const MOST_READS = 64;

/** Opens a bootstrap that is wholly in memory. */
export function openTreeOf(bytes: Uint8Array, blobs: number): Tree {
  const shared = new SharedArrayBuffer(bytes.length);
  new Uint8Array(shared).set(bytes);
  const present = createReadyMap(bytes.length);
  setReady(present, 0, bytes.length);
  const blobNumbers = Array.from({ length: blobs }, (_, i) => FIRST_BLOB + i);
  return openTree({
    ...{ first: FIRST, fd: -1, bytes: shared, present: present.words.buffer },
    ...{ blobs: blobNumbers, isOfFiles: false },
  });
}

export function treeView(bytes: Uint8Array, blobs: number): SeenFile[] {
  const tree = openTreeOf(bytes, blobs);
  const root = tree.root();
  const seen = [describe(tree, '', root.ino)];
  const directories = [{ path: '', ino: root.ino }];
  for (const { path, ino } of directories) {
    const entries: { name: Buffer; ino: number; type: number }[] = [];
    let from = 0;
    // Two at a time: reading goes on where it was broken off.
    for (let more = true; more; ) {
      more = false;
      let taken = 0;
      const found = tree.readdir(ino, from, (entry) => {
        if (taken++ === 2) {
          more = true;
          return false;
        }
        entries.push({ name: Buffer.from(entry.name), ino: entry.ino, type: entry.type });
        from = entry.next;
        return true;
      });
      ensure(found, `${path} is no directory`);
    }
    for (const entry of entries) {
      const name = entry.name.toString('latin1');
      const looked = tree.lookup(ino, entry.name);
      ensure(typeof looked === 'object' && looked.ino === entry.ino, `${path}/${name} is listed, and not found`);
      ensure((looked.mode & 0o170000) === entry.type, `${path}/${name} has two types`);
      if (name === '.' || name === '..') continue;
      seen.push(describe(tree, `${path}/${name}`, entry.ino));
      if ((looked.mode & 0o170000) === 0o040000) directories.push({ path: `${path}/${name}`, ino: entry.ino });
    }
  }
  return seen;
}

function describe(tree: Tree, path: string, ino: number): SeenFile {
  const { mode, uid, gid, nlink, size, mtime, rdev } = tree.getattr(ino)!;
  const names = Buffer.from(tree.listxattr!(ino)!);
  const xattrs = names
    .toString('latin1')
    .split('\0')
    .slice(0, -1)
    .map((name): [string, number] => [name, crc32(tree.getxattr!(ino, Buffer.from(name, 'latin1'))!)]);
  const file: SeenFile = {
    ...{ path, nid: ino - FIRST, mode, uid, gid, nlink, size, mtime, rdev, xattrs },
    extents: [],
  };
  const target = tree.readlink!(ino);
  if (target !== undefined) file.content = crc32(target);
  if ((mode & 0o170000) !== 0o100000) return file;
  let content: number | undefined;
  for (let at = 0, reads = 0; at < size || reads === 0; at += READ, reads++) {
    ensure(reads < MOST_READS, 'this file is too large for this reader');
    const part = tree.locate(ino, at, READ);
    if (Array.isArray(part)) for (const { ino: blob, ...place } of part) addExtent(file.extents, extent(blob, place));
    else if (part.length > 0) content = crc32(part, content);
  }
  if (content !== undefined) file.content = content;
  return file;
}

function extent(ino: number, place: Omit<SeenExtent, 'blob'>): SeenExtent {
  return { blob: ino === ZEROS ? -1 : ino - FIRST_BLOB, ...place };
}
