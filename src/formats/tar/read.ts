import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from '../../erofs/inode.ts';
import { corrupt, NymphError } from '../../errors.ts';
import type { Content, SourceEntry } from '../rafs/write/source.ts';
import { isZeroBlock, parseTarHeader, TAR_BLOCK, type TarHeader } from './header.ts';
import { type PaxRecords, parsePax, paxNumber, paxText, paxTime, paxXattrs } from './pax.ts';
import { readOldSparse, readPaxSparse, type SparseMap } from './sparse.ts';

/** A tar that is read in order. */
export interface TarBytes {
  readonly position: number;
  /** The next bytes; fewer at the end. */
  take(length: number): Promise<Buffer>;
  /** Passes over bytes. @throws NymphError `corrupt` at the end */
  skip(length: number): Promise<void>;
}

/** The same with what becomes of the content of its files. */
export interface TarInput<Kept = Content> extends TarBytes {
  /** Takes the next bytes and says where they can be read from later. @param map if they are only parts of a file */
  keep(length: number, map?: SparseMap): Promise<Kept>;
}

/** An entry with a path that is clean: no `.`, `..` or empty names; no bytes for the root. */
export type TarEntry<Kept = Content> = Omit<SourceEntry, 'content'> & { path: Buffer; content?: Kept };

/** The same with its name as it stands in the tar. */
export type TarRecord<Kept = Content> = TarEntry<Kept> & { name: Buffer };

const STRUCTURE = 'tar';
/** Long names and extended headers are held in memory. */
const MAX_EXTENSION = 16 << 20;
const MAX_FILE = 2 ** 44;
const TYPE_OF: Record<string, number> = {
  '0': S_IFREG,
  '7': S_IFREG,
  S: S_IFREG,
  '1': S_IFREG,
  '2': S_IFLNK,
  '3': S_IFCHR,
  '4': S_IFBLK,
  '5': S_IFDIR,
  D: S_IFDIR,
  '6': S_IFIFO,
};

/**
 * Reads the members of a tar: POSIX pax and ustar, GNU (long names, sparse files, numbers of base 256), V7. Sizes, names,
 * owners, times and attributes in extended headers win.
 * @throws NymphError `corrupt`, naming the field and byte; `unsupported` for members that are no files
 */
export async function* readTar<Kept>(input: TarInput<Kept>): AsyncGenerator<TarRecord<Kept>> {
  let global: PaxRecords = [];
  let local: PaxRecords = [];
  let longName: Buffer | undefined;
  let longLink: Buffer | undefined;
  for (;;) {
    const at = input.position;
    const block = await input.take(TAR_BLOCK);
    if (block.length === 0 || isZeroBlock(block)) return;
    if (block.length < TAR_BLOCK) throw corrupt(STRUCTURE, 'header', at, 'is cut short');
    const header = parseTarHeader(block, at);
    const { type } = header;
    if (type === 'x' || type === 'X') local = parsePax(await extension(input, header, at), at);
    else if (type === 'g') global = merge(global, parsePax(await extension(input, header, at), at));
    else if (type === 'L') longName = untilNul(await extension(input, header, at));
    else if (type === 'K') longLink = untilNul(await extension(input, header, at));
    else if (type === 'V') await skipData(input, header.size);
    else {
      yield await member(input, block, header, [...global, ...local], { longName, longLink, at });
      local = [];
      longName = undefined;
      longLink = undefined;
    }
  }
}

async function member<Kept>(
  input: TarInput<Kept>,
  block: Buffer,
  header: TarHeader,
  records: PaxRecords,
  { longName, longLink, at }: { longName?: Buffer; longLink?: Buffer; at: number },
): Promise<TarRecord<Kept>> {
  const pax = (key: string) => records.findLast(([name]) => name === key)?.[1];
  const name = pax('GNU.sparse.name') ?? pax('path') ?? longName ?? header.name;
  const linkName = pax('linkpath') ?? longLink ?? header.linkName;
  let type = TYPE_OF[header.type];
  if (type === undefined)
    throw new NymphError(
      'unsupported',
      `${STRUCTURE}: ${show(name)} at byte ${at} has type ${show(Buffer.from(header.type, 'latin1'))}, which is no file`,
    );
  // Before there was a type for directories, a slash said so.
  if (header.type === '0' && name.at(-1) === 0x2f) type = S_IFDIR;
  const entry: TarRecord<Kept> = {
    path: cleanPath(name),
    name,
    mode: type | (header.mode & 0o7777),
    uid: paxNumber(records, 'uid', at) ?? header.uid,
    gid: paxNumber(records, 'gid', at) ?? header.gid,
    mtime: header.mtime,
    ...paxTime(records, 'mtime', at),
    xattrs: paxXattrs(records),
  };
  if (entry.uid! < 0 || entry.gid! < 0 || entry.uid! > 0xffffffff || entry.gid! > 0xffffffff)
    throw corrupt(STRUCTURE, 'owner', at, `${entry.uid}:${entry.gid} cannot be an owner`);
  // Of links, devices and directories the size counts nothing: some writers put the linked file's there.
  const size = paxNumber(records, 'size', at) ?? header.size;
  if (size < 0 || size > MAX_FILE) throw corrupt(STRUCTURE, 'size', at, `${size} bytes`);
  if (header.type === '1') entry.linkTo = cleanPath(linkName);
  else if (type === S_IFLNK) entry.target = linkName;
  else if (type === S_IFCHR || type === S_IFBLK) entry.device = header.device;
  else if (header.type === 'D') await skipData(input, size);
  else if (type === S_IFREG) Object.assign(entry, await fileContent(input, block, header, records, size, at));
  return entry;
}

async function fileContent<Kept>(
  input: TarInput<Kept>,
  block: Buffer,
  header: TarHeader,
  records: PaxRecords,
  size: number,
  at: number,
): Promise<Pick<TarEntry<Kept>, 'size' | 'content'>> {
  const take = async (length: number) => {
    const bytes = await input.take(length);
    if (bytes.length < length) throw corrupt(STRUCTURE, 'sparse map', at, 'is cut short');
    return bytes;
  };
  const isPax = paxText(records, 'GNU.sparse.major') !== undefined || paxText(records, 'GNU.sparse.size') !== undefined;
  const sparse =
    header.type === 'S'
      ? { map: await readOldSparse(block, size, at, take), stored: size }
      : isPax
        ? await readPaxSparse(records, size, at, take)
        : undefined;
  const real = sparse?.map.size ?? size;
  if (real > MAX_FILE) throw corrupt(STRUCTURE, 'realsize', at, `${real} bytes`);
  const stored = sparse?.stored ?? size;
  const content = real > 0 ? await input.keep(stored, sparse?.map) : undefined;
  await input.skip(-stored & (TAR_BLOCK - 1));
  return { size: real, content };
}

async function extension(input: TarBytes, header: TarHeader, at: number): Promise<Buffer> {
  if (header.size < 0 || header.size > MAX_EXTENSION) throw corrupt(STRUCTURE, 'size', at, `${header.size} bytes`);
  const bytes = await input.take(header.size);
  if (bytes.length < header.size) throw corrupt(STRUCTURE, 'extended header', at, 'is cut short');
  await input.skip(-header.size & (TAR_BLOCK - 1));
  return bytes;
}

async function skipData(input: TarBytes, size: number): Promise<void> {
  await input.skip(Math.ceil(size / TAR_BLOCK) * TAR_BLOCK);
}

/** Later records replace those of the same key. */
function merge(before: PaxRecords, after: PaxRecords): PaxRecords {
  const keys = new Set(after.map(([key]) => key));
  return [...before.filter(([key]) => !keys.has(key)), ...after];
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

/** Names from the root on; `..` leads to the parent, but never out. */
export function cleanPath(path: Buffer): Buffer {
  const names: string[] = [];
  for (const name of path.toString('latin1').split('/')) {
    if (name === '' || name === '.') continue;
    if (name === '..') names.pop();
    else names.push(name);
  }
  return Buffer.from(names.join('/'), 'latin1');
}

function show(bytes: Buffer): string {
  return JSON.stringify(bytes.toString());
}
