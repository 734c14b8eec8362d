import { type FileHandle, lstat, open, readdir, readlink } from 'node:fs/promises';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../../erofs/inode.ts';
import { NymphError } from '../../../errors.ts';
import { readPathXattrs } from './path-xattrs.ts';
import type { Content, SourceEntry } from './source.ts';

const SLASH = Buffer.from('/');
/** Inodes that are asked for at once. */
const BATCH = 64;

/**
 * Entries of a directory on this machine, the root first, each directory before its children. Hard links are found by
 * device and inode number. Times, owners, modes and attributes are those of the files.
 * @throws NymphError `source`
 */
export async function* walkDirectory(root: string): AsyncGenerator<SourceEntry> {
  const firstNames = new Map<string, Buffer>();
  yield await describe(Buffer.from(root), Buffer.alloc(0), firstNames);
  const directories: Buffer[] = [Buffer.alloc(0)];
  for (let inside = directories.pop(); inside !== undefined; inside = directories.pop()) {
    const directory = Buffer.concat([Buffer.from(root), inside]);
    const names = (await readdir(directory, { encoding: 'buffer' })).sort(Buffer.compare);
    for (let i = 0; i < names.length; i += BATCH) {
      const entries = names.slice(i, i + BATCH).map((name) => {
        const tail = Buffer.concat([SLASH, name]);
        return describe(Buffer.concat([directory, tail]), Buffer.concat([inside, tail]), firstNames);
      });
      for (const entry of await Promise.all(entries)) {
        yield entry;
        if ((entry.mode & S_IFMT) === S_IFDIR) directories.push(entry.path);
      }
    }
  }
}

type FoundEntry = SourceEntry & { path: Buffer };

async function describe(path: Buffer, inside: Buffer, firstNames: Map<string, Buffer>): Promise<FoundEntry> {
  const stat = await lstat(path, { bigint: true });
  const mode = Number(stat.mode);
  const type = mode & S_IFMT;
  const seconds = stat.mtimeNs / 1_000_000_000n - (stat.mtimeNs % 1_000_000_000n < 0n ? 1n : 0n);
  const entry: FoundEntry = {
    path: inside,
    mode,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtime: Number(seconds),
    mtimeNs: Number(stat.mtimeNs - seconds * 1_000_000_000n),
  };
  if (type !== S_IFDIR && stat.nlink > 1n) {
    const key = `${stat.dev}:${stat.ino}`;
    const first = firstNames.get(key);
    if (first) return { ...entry, linkTo: first };
    firstNames.set(key, inside);
  }
  entry.xattrs = readPathXattrs(path);
  if (type === S_IFLNK) entry.target = await readlink(path, 'buffer');
  if (type === S_IFCHR || type === S_IFBLK) entry.device = splitDevice(stat.rdev);
  if (type === S_IFREG) {
    entry.size = Number(stat.size);
    entry.open = () => openFile(path);
  }
  return entry;
}

/** The C library's coding of a 64-bit dev_t. */
function splitDevice(device: bigint): { major: number; minor: number } {
  return {
    major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)),
    minor: Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n)),
  };
}

async function openFile(path: Buffer): Promise<Content> {
  const file = await open(path, 'r');
  return {
    read: (offset, length) => readExactly(file, path, offset, length),
    close: () => file.close(),
  };
}

async function readExactly(file: FileHandle, path: Buffer, offset: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) throw new NymphError('source', `${path} became shorter while it was read`);
    done += bytesRead;
  }
  return bytes;
}
