import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { resolve } from 'node:path';
import Database from 'better-sqlite3';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { createBlobStore } from './blob-store.ts';
import { type Cache, FIRST_RANGE } from './cache.ts';
import { type Catalogue, type FirstNumbers, openCatalogue } from './catalogue.ts';
import { type Disk, localDisk, writeWhole } from './disk.ts';
import type { EntryRecord, Place } from './entry.ts';
import { createEvictor } from './evict.ts';
import { cacheError, createHealth, type Log, messageOf } from './health.ts';
import { createImageStore } from './image-store.ts';
import { type Layout, layoutOf } from './layout.ts';
import { lockDirectory } from './lock.ts';
import { patientOpenFiles } from './open-files.ts';
import { recoverBlobs, recoverImages } from './recover.ts';
import { holdReserve, releaseReserve } from './reserve.ts';
import { createScratch } from './scratch.ts';
import { createTraceStore, type TraceStore } from './trace-store.ts';
import { createTrash, type Trash } from './trash.ts';

export interface CacheOptions {
  /** Bytes that the cache may use on disk; no limit by default. */
  quota?: number;
  /** Part of the quota that automatic eviction goes down to; 0.9 by default. */
  lowWater?: number;
  /** Digests of images that others count on though they are not mounted: asked at each eviction. */
  needed?: () => ReadonlySet<OciDigest>;
  /** Changes with each start of the machine; the kernel's boot id by default. */
  bootId?: string;
  log?: Log;
  /** How files are changed: for tests that fail each step in turn. */
  disk?: Disk;
}

/** Inodes below are those of the flat file system itself. */
const FIRST_INO = 2 ** 20;
/** Inode numbers for ranges that no catalogue uses up: one that replaces a lost one begins so many further on. */
const RANGES = 2 ** 40;

/**
 * Opens a cache directory, made if need be, for this process alone.
 * @throws NymphError `busy` if another process uses it, `cache` if it cannot be used
 */
export async function openCache(root: string, options: CacheOptions = {}): Promise<Cache> {
  const { log = () => {}, disk = localDisk } = options;
  const layout = layoutOf(resolve(root));
  let unlock: (() => void) | undefined;
  let catalogue: Catalogue | undefined;
  try {
    makeDirectories(layout);
    unlock = lockDirectory(layout.lock);
    const trash = createTrash(disk, layout.trash, log);
    for (const name of readdirSync(layout.temporary)) await trash.discard(`${layout.temporary}/${name}`);
    const stored = await openOrRebuild(layout, trash, log);
    catalogue = stored.catalogue;
    const reserved = holdReserve(layout.reserve, log);
    const bootId = options.bootId ?? readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    await trash.empty();
    const place: Place = { layout, disk, log, health: createHealth(log, () => probe(layout, disk)), bootId };
    const traces = createTraceStore(place);
    await traces.trim();
    return assemble(place, stored, traces, trash, reserved, options, unlock);
  } catch (error) {
    await catalogue?.close();
    unlock?.();
    if (error instanceof NymphError) throw error;
    throw cacheError(`cannot open the cache ${layout.root}`, error);
  }
}

function assemble(
  place: Place,
  { catalogue, records, sizes }: Stored,
  traces: TraceStore,
  trash: Trash,
  reserved: number,
  { quota, lowWater, needed }: CacheOptions,
  unlock: () => void,
): Cache {
  const images = createImageStore(place, catalogue, trash, sizes);
  const blobs = createBlobStore(place, catalogue, trash, records, () => evictor.look());
  const evictor = createEvictor({ blobs, images, catalogue, bytesInUse, quota, lowWater, needed, log: place.log });
  let closing: Promise<void> | undefined;

  function bytesInUse(): number {
    let bytes = catalogue.bytes + reserved;
    for (const record of blobs.records()) bytes += record.bytes;
    for (const size of images.bytes.values()) bytes += size;
    return bytes;
  }

  async function close(): Promise<void> {
    await blobs.close();
    await evictor.idle();
    await trash.settled();
    place.health.close();
    await catalogue.close();
    unlock();
  }

  return {
    root: place.layout.root,
    open: blobs.open,
    scratch: () => createScratch(place),
    reopen: blobs.reopen,
    others: blobs.others,
    peek: blobs.peek,
    release: blobs.release,
    changed: blobs.changed,
    settle: blobs.settle,
    refused: (blob, reason) => place.health.failed(`data of ${blob.key}`, reason),
    putImage: images.put,
    image: catalogue.image,
    images: catalogue.images,
    bootstrapPath: images.bootstrapPath,
    putTrace: traces.put,
    trace: traces.get,
    removeImage: async (digest) => void (await images.remove(digest)),
    async pin(digest, pinned) {
      await images.pin(digest, pinned);
      evictor.look();
    },
    inodeRange: (name, count) => inCatalogue(`inode numbers of ${name}`, () => catalogue.inodeRange(name, count)),
    openFiles: patientOpenFiles(catalogue.openFiles, place.health),
    mounts: catalogue.mounts,
    putMount: (mount) => inCatalogue(`mount ${mount.directory}`, () => catalogue.putMount(mount)),
    removeMount: (directory) => inCatalogue(`mount ${directory}`, () => catalogue.removeMount(directory)),
    usage() {
      const all = [...blobs.records()];
      return {
        bytes: bytesInUse(),
        quota,
        blobs: all.length,
        openBlobs: all.filter((record) => record.open).length,
        images: images.bytes.size,
        writable: place.health.writable,
        evicted: { ...evictor.evicted },
      };
    },
    async prune(target, force) {
      const result = await evictor.prune(target, force);
      await trash.settled();
      return result;
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

function inCatalogue<T>(what: string, change: () => T): T {
  try {
    return change();
  } catch (error) {
    if (error instanceof NymphError) throw error;
    throw cacheError(`cannot change the catalogue: ${what}`, error);
  }
}

/** Writes as much as a chunk takes, and removes it. */
async function probe(layout: Layout, disk: Disk): Promise<void> {
  const path = `${layout.temporary}/probe`;
  try {
    await writeWhole(disk, path, new Uint8Array(1024 * 1024));
  } finally {
    await disk.remove(path);
  }
}

function makeDirectories(layout: Layout): void {
  if (!existsSync(layout.root)) mkdirSync(layout.root, { recursive: true, mode: 0o700 });
  for (const directory of [layout.blobs, layout.images, layout.traces, layout.temporary, layout.trash]) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    chmodSync(directory, 0o700);
  }
}

/** What is on disk, when catalogue and directories agree. */
interface Stored {
  catalogue: Catalogue;
  records: EntryRecord[];
  sizes: Map<OciDigest, number>;
}

/** A damaged catalogue is set aside, and a new one made from what the directories say. */
async function openOrRebuild(layout: Layout, trash: Trash, log: Log): Promise<Stored> {
  const path = layout.catalogue;
  // Inode numbers that a lost catalogue gave away are below this: it gave less than 16 in a millisecond.
  const beyondLost: FirstNumbers = { ino: Date.now() * 16, range: FIRST_RANGE + RANGES * (1 + (Date.now() % 127)) };
  const isLost = !existsSync(path) && readdirSync(layout.blobs).length > 0;
  if (isLost) log('error', 'the catalogue of the cache is missing: it is rebuilt; its mounts are forgotten', { path });
  try {
    return await openStored(layout, isLost ? beyondLost : { ino: FIRST_INO, range: FIRST_RANGE }, trash, log);
  } catch (error) {
    if (isFull(error) && releaseReserve(layout.reserve)) return openOrRebuild(layout, trash, log);
    if (!isDamage(error)) throw error;
    const aside = `${path}.damaged-${Date.now()}`;
    log('error', 'the catalogue of the cache is damaged: it is set aside and rebuilt; its mounts are forgotten', {
      path,
      aside,
      error: messageOf(error),
    });
    for (const suffix of ['', '-wal', '-shm']) {
      if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
    }
    return openStored(layout, beyondLost, trash, log);
  }
}

async function openStored(layout: Layout, first: FirstNumbers, trash: Trash, log: Log): Promise<Stored> {
  createPrivate(layout.catalogue);
  const catalogue = openCatalogue(layout.catalogue, first, log);
  try {
    const records = await recoverBlobs(layout, catalogue, trash, log);
    const sizes = await recoverImages(layout, catalogue, trash, log);
    return { catalogue, records, sizes };
  } catch (error) {
    await catalogue.close();
    throw error;
  }
}

/** SQLite gives its other files the mode of the database. */
function createPrivate(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
}

/** SQLite says of some files only that they could not be written. */
function isFull(error: unknown): boolean {
  if (error instanceof Database.SqliteError)
    return /^SQLITE_(FULL|IOERR|CANTOPEN)/.test(error.code) && !isDamage(error);
  return (error as NodeJS.ErrnoException).code === 'ENOSPC';
}

/** SQLite's errors are about its file, but for those about the file system, the memory, or another user of the file. */
function isDamage(error: unknown): boolean {
  if (error instanceof SyntaxError) return true;
  if (!(error instanceof Database.SqliteError)) return false;
  if (error.code === 'SQLITE_IOERR_SHORT_READ') return true;
  return !/^SQLITE_(FULL|IOERR|CANTOPEN|READONLY|PERM|AUTH|BUSY|LOCKED|NOMEM|PROTOCOL)/.test(error.code);
}
