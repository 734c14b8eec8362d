import type { FileHandle } from 'node:fs/promises';
import { digestOf } from '../codec/digest.ts';
import { intersect, subtract } from './bits.ts';
import type { Disk } from './disk.ts';

/**
 * The `ready` file of an entry: pages of 4 KiB, little endian, each with its own digest, so that a torn or damaged page
 * costs its own bits and nothing else. Page 0 is the header; then come n pages of *current* bits and n of *synced* bits.
 *
 *   page      0  16  SHA-256 of the rest of the page, first half
 *            16   4  kind: 0 header, 1 current, 2 synced
 *            20   4  index among its kind
 *            24   8  inode number of the entry
 *            32      payload, 4,064 bytes: bits of 32,512 blocks (127 MiB), or the header
 *   header   32   8  magic
 *            40   4  version
 *            44   4  zero
 *            48   8  size of the blob, bytes
 *            56  40  id of the boot in which current bits were written
 *
 * `current`: the data was written before the bit; that holds until the machine stops. `synced`: the data was synced
 * before the bit; that holds for ever, for bits that are also current (a bit taken back may be synced still).
 * A page of zeros (a hole) is no bits.
 */
const PAGE_SIZE = 4096;
const PREFIX = 32;
const PAYLOAD = PAGE_SIZE - PREFIX;
const HASH = 16;
const MAGIC = 'NYMPHRDY';
export const READY_VERSION = 1;
const HOLE = Buffer.alloc(PAGE_SIZE);

const HEADER = 0;
const CURRENT = 1;
const SYNCED = 2;
type BitKind = typeof CURRENT | typeof SYNCED;
type Kind = typeof HEADER | BitKind;

/** What the file is known to hold, and where it may differ. */
export interface ReadyFile {
  readonly ino: number;
  /** Size of the blob, bytes. */
  readonly size: number;
  readonly bootId: string;
  current: Uint8Array;
  synced: Uint8Array;
  /** Numbers of pages in the file that have to be written even if the bits look the same. */
  readonly stale: Set<number>;
  /** True if nothing was written since the last sync, of the data or of this file. */
  settled: boolean;
}

/** What a file tells when it is opened. */
export interface ReadyState {
  ready: ReadyFile;
  /** Bits that count. */
  trusted: Uint8Array;
  /** Bits whose data was written before the machine stopped, but not synced: to be verified. */
  doubtful: Uint8Array;
}

const pagesFor = (bits: number) => Math.ceil(bits / PAYLOAD);

/** A new, empty file. `bitmapLength` is the length of what `readyBytes` gives. */
export function newReadyFile(ino: number, size: number, bootId: string, bitmapLength: number): ReadyFile {
  const none = () => new Uint8Array(bitmapLength);
  return { ino, size, bootId, current: none(), synced: none(), stale: new Set([0]), settled: false };
}

/**
 * Reads the file. Nothing is written: the header keeps its boot until the first `writeCurrent`.
 * @param covered bits that may count: those of blocks that chunks cover
 */
export async function readReadyFile(
  file: FileHandle,
  ino: number,
  size: number,
  bootId: string,
  covered: Uint8Array,
): Promise<ReadyState> {
  const ready = newReadyFile(ino, size, bootId, covered.length);
  const pages = pagesFor(covered.length);
  const bytes = Buffer.alloc((1 + 2 * pages) * PAGE_SIZE);
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  const none = new Uint8Array(covered.length);
  const header = payloadOf(bytes, 0, HEADER, 0, ino);
  if (!header || !isHeader(header, size)) {
    // The other pages may hold anything: all are written at the first occasion.
    for (let page = 0; page <= 2 * pages; page++) ready.stale.add(page);
    return { ready, trusted: none, doubtful: none };
  }
  ready.stale.clear();
  const collect = (kind: BitKind) => {
    const bits = new Uint8Array(covered.length);
    for (let index = 0; index < pages; index++) {
      const page = pageNumber(kind, index, pages);
      const payload = payloadOf(bytes, page, kind, index, ino);
      if (payload) bits.set(payload.subarray(0, bits.length - index * PAYLOAD), index * PAYLOAD);
      else ready.stale.add(page);
    }
    return bits;
  };
  ready.current = collect(CURRENT);
  ready.synced = collect(SYNCED);
  ready.settled = ready.stale.size === 0 && Buffer.compare(ready.current, ready.synced) === 0;
  const current = intersect(ready.current, covered);
  if (header.toString('latin1', 24, 64).trimEnd() === bootId) return { ready, trusted: current, doubtful: none };
  ready.stale.add(0);
  const trusted = intersect(current, ready.synced);
  return { ready, trusted, doubtful: subtract(current, trusted) };
}

/** Writes the current bits, then the header if it is of another boot: in this order old bits never count as new. */
export async function writeCurrent(disk: Disk, file: FileHandle, ready: ReadyFile, bits: Uint8Array): Promise<void> {
  await writeBits(disk, file, ready, CURRENT, bits);
  if (!ready.stale.has(0)) return;
  await writePage(disk, file, ready, 0, pageOf(ready, HEADER, 0, headerPayload(ready)));
}

/** Writes bits whose data was synced. The caller syncs the file. */
export async function writeSynced(disk: Disk, file: FileHandle, ready: ReadyFile, bits: Uint8Array): Promise<void> {
  await writeBits(disk, file, ready, SYNCED, bits);
}

async function writeBits(
  disk: Disk,
  file: FileHandle,
  ready: ReadyFile,
  kind: BitKind,
  bits: Uint8Array,
): Promise<void> {
  const known = kind === CURRENT ? ready.current : ready.synced;
  const pages = pagesFor(bits.length);
  for (let index = 0; index < pages; index++) {
    const page = pageNumber(kind, index, pages);
    const from = index * PAYLOAD;
    const part = bits.subarray(from, from + PAYLOAD);
    const same = Buffer.compare(part, known.subarray(from, from + PAYLOAD)) === 0;
    if (same && !ready.stale.has(page)) continue;
    await writePage(disk, file, ready, page, pageOf(ready, kind, index, part));
    known.set(part, from);
  }
}

/** A page that could not be written whole holds anything: it stays stale. */
async function writePage(disk: Disk, file: FileHandle, ready: ReadyFile, page: number, bytes: Buffer): Promise<void> {
  ready.stale.add(page);
  await disk.write(file, bytes, page * PAGE_SIZE);
  ready.stale.delete(page);
}

function pageOf(ready: ReadyFile, kind: Kind, index: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(PAGE_SIZE);
  bytes.writeUInt32LE(kind, 16);
  bytes.writeUInt32LE(index, 20);
  bytes.writeBigUInt64LE(BigInt(ready.ino), 24);
  bytes.set(payload, PREFIX);
  bytes.set(digestOf('sha256', bytes.subarray(HASH)).subarray(0, HASH), 0);
  return bytes;
}

function pageNumber(kind: BitKind, index: number, pages: number): number {
  return kind === CURRENT ? 1 + index : 1 + pages + index;
}

/** Payload of a page that is whole and is what it should be. */
function payloadOf(bytes: Buffer, page: number, kind: Kind, index: number, ino: number): Buffer | undefined {
  const at = bytes.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
  if (at.equals(HOLE)) return HOLE.subarray(PREFIX);
  if (at.compare(digestOf('sha256', at.subarray(HASH)), 0, HASH, 0, HASH) !== 0) return undefined;
  const right = at.readUInt32LE(16) === kind && at.readUInt32LE(20) === index;
  return right && at.readBigUInt64LE(24) === BigInt(ino) ? at.subarray(PREFIX) : undefined;
}

function headerPayload(ready: ReadyFile): Uint8Array {
  const payload = Buffer.alloc(64);
  payload.write(MAGIC, 0, 'latin1');
  payload.writeUInt32LE(READY_VERSION, 8);
  payload.writeBigUInt64LE(BigInt(ready.size), 16);
  payload.write(ready.bootId.padEnd(40), 24, 40, 'latin1');
  return payload;
}

function isHeader(payload: Buffer, size: number): boolean {
  const known = payload.toString('latin1', 0, 8) === MAGIC && payload.readUInt32LE(8) === READY_VERSION;
  return known && payload.readBigUInt64LE(16) === BigInt(size);
}
