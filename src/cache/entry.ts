import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { corrupt } from '../errors.ts';
import type { CachedBlob, Readiness, Scratch, Standing } from './cache.ts';
import { growDictionaries, makeDictionaries, openDictionaries } from './dictionaries.ts';
import { type Disk, replaceWhole, syncWhole, writeWhole } from './disk.ts';
import { type Health, type Log, messageOf } from './health.ts';
import { keyOf, type Layout } from './layout.ts';
import type { Ledger } from './ledger.ts';
import { decodeLedger, encodeLedger, withTablesOf } from './ledger-file.ts';
import { createPersister, type Persister } from './persist.ts';
import { readiness } from './readiness.ts';
import { newReadyFile, type ReadyFile, readReadyFile, writeCurrent } from './ready-file.ts';
import {
  addReadyBytes,
  clearReady,
  closeReadyMap,
  createReadyMap,
  type ReadyMap,
  readyBytes,
  setReady,
} from './ready-map.ts';
import { recheck } from './recheck.ts';
import { openStanding, type StandingFile } from './standing.ts';

/** Where entries live and what they share. */
export interface Place {
  readonly layout: Layout;
  readonly disk: Disk;
  readonly log: Log;
  readonly health: Health;
  readonly bootId: string;
}

/** What is known of an entry whether it is open or not. */
export interface EntryRecord {
  readonly key: string;
  readonly id: string;
  readonly variant: number;
  readonly ino: number;
  /** Unix time, ms. */
  lastUsed: number;
  /** Bytes on disk. */
  bytes: number;
  open?: OpenEntry;
}

export interface OpenEntry {
  readonly blob: { -readonly [Field in keyof CachedBlob]: CachedBlob[Field] };
  readonly persister: Persister;
  ledger: Ledger;
  /** Size of the ledger's file. */
  ledgerBytes: number;
  references: number;
  readonly data: FileHandle;
  readonly dictionaries: FileHandle | undefined;
  /** Where chunks have no digests. */
  readonly standing: StandingFile | undefined;
  /** Its ledger was not synced yet. */
  isFresh: boolean;
  /** The background verification. */
  recheck?: { stop: AbortController; done: Promise<void> };
}

/**
 * Makes a new entry: whole under a temporary name, then renamed. Its ledger is synced with the first bits: who waits for an
 * image waits for no disk, and after a power cut a ledger that is not whole is noticed.
 * @param counted called when the record's `bytes` changed
 * @param given holds all bytes already, verified: it becomes the entry's file
 */
export async function createEntry(
  place: Place,
  record: EntryRecord,
  ledger: Ledger,
  counted: () => void,
  given?: Scratch,
): Promise<OpenEntry> {
  const { disk, layout, bootId } = place;
  const temporary = join(layout.temporary, String(record.ino));
  const handles: FileHandle[] = [];
  try {
    await disk.mkdir(temporary);
    if (given !== undefined) await disk.rename(given.path, join(temporary, 'data'));
    const data = await disk.open(join(temporary, 'data'), given === undefined ? 'wx+' : 'r+');
    handles.push(data);
    await disk.truncate(data, ledger.size);
    const readyFile = await disk.open(join(temporary, 'ready'), 'wx+');
    handles.push(readyFile);
    const map = createReadyMap(ledger.size);
    const ready = newReadyFile(record.ino, ledger.size, bootId, readyBytes(map).length);
    await writeCurrent(disk, readyFile, ready, readyBytes(map));
    const { ino, variant } = record;
    const encoded = encodeLedger({ ino, variant, ledger });
    await writeWhole(disk, join(temporary, 'chunks'), encoded);
    const dictionaries = await makeDictionaries(disk, temporary, ledger);
    if (dictionaries) handles.push(dictionaries);
    const files = { data, dictionaries, standing: await standingOf(place, record, ledger, map) };
    const entry = assemble(place, record, withTablesOf(encoded, ledger), encoded.length, files, ready, map, counted);
    entry.isFresh = true;
    await count(record, entry, readyFile);
    await readyFile.close();
    await disk.rename(temporary, entryDirectory(place, record));
    if (given !== undefined) {
      addReadyBytes(map, coverage(ledger));
      entry.persister.changed();
    }
    return entry;
  } catch (error) {
    for (const handle of handles) await handle.close();
    // What cannot be removed now is removed at the next start.
    await disk.remove(temporary).catch(() => {});
    throw error;
  }
}

/**
 * Opens an entry that is on disk.
 * @throws NymphError `corrupt` if its files are damaged or absent; other errors say nothing about the entry
 */
export async function loadEntry(place: Place, record: EntryRecord, counted: () => void): Promise<OpenEntry> {
  const directory = entryDirectory(place, record);
  const handles: FileHandle[] = [];
  try {
    const { ledger, bytes } = await readLedger(directory, record);
    const data = await place.disk.open(join(directory, 'data'), 'r+');
    handles.push(data);
    const { size } = await data.stat();
    const readyFile = await place.disk.open(join(directory, 'ready'), 'r+');
    handles.push(readyFile);
    const map = createReadyMap(ledger.size);
    const state = await readReadyFile(readyFile, record.ino, ledger.size, place.bootId, coverage(ledger));
    addReadyBytes(map, state.trusted);
    const dictionaries = await openDictionaries(place.disk, directory, ledger);
    if (dictionaries) handles.push(dictionaries);
    const standing = await standingOf(place, record, ledger, map);
    if (standing?.current() !== 'wrong') checkDataSize({ size }, ledger);
    // It was synced as a whole before it was called right.
    if (standing?.current() === 'right') addReadyBytes(map, coverage(ledger));
    const files = { data, dictionaries, standing };
    const entry = assemble(place, record, ledger, bytes, files, state.ready, map, counted);
    await count(record, entry, readyFile);
    await readyFile.close();
    if (state.doubtful.some((byte) => byte !== 0)) startRecheck(place, entry, state.doubtful);
    return entry;
  } catch (error) {
    for (const handle of handles) await handle.close();
    throw asDamage(record, error);
  }
}

/** The ledger of an entry that is on disk, and the size of its file. */
async function readLedger(directory: string, record: EntryRecord): Promise<{ ledger: Ledger; bytes: number }> {
  const encoded = await readFile(join(directory, 'chunks'));
  const { ino, variant, ledger } = decodeLedger(encoded);
  if (ino !== record.ino || keyOf(ledger.id, variant) !== record.key)
    throw corrupt('chunk ledger', 'key', 16, `belongs to another entry than ${record.key}`);
  return { ledger, bytes: encoded.length };
}

function checkDataSize({ size }: { size: number }, ledger: Ledger): void {
  if (size !== ledger.size) throw corrupt('cached data', 'size', size, `is not ${ledger.size}`);
}

/** A file that is absent is damage; other errors say nothing about the entry. */
function asDamage(record: EntryRecord, error: unknown): unknown {
  const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
  return absent ? corrupt(`entry ${record.key}`, 'files', 0, messageOf(error)) : error;
}

/**
 * How much of an entry that is not open is here; nothing is written.
 * @throws as `loadEntry`
 */
export async function peekEntry(place: Place, record: EntryRecord): Promise<Readiness> {
  const directory = entryDirectory(place, record);
  let readyFile: FileHandle | undefined;
  try {
    const { ledger } = await readLedger(directory, record);
    const { size } = await stat(join(directory, 'data'));
    readyFile = await open(join(directory, 'ready'), 'r');
    const map = createReadyMap(ledger.size);
    const state = await readReadyFile(readyFile, record.ino, ledger.size, place.bootId, coverage(ledger));
    const standing = (await standingOf(place, record, ledger, map))?.current();
    if (standing !== 'wrong') checkDataSize({ size }, ledger);
    addReadyBytes(map, standing === 'right' ? coverage(ledger) : state.trusted);
    return { ...readiness(ledger.chunks, map), ...(standing && { standing }) };
  } catch (error) {
    throw asDamage(record, error);
  } finally {
    await readyFile?.close();
  }
}

/** Persists and closes. Reported, not thrown: whoever closes cannot help it. */
export async function closeEntry(entry: OpenEntry): Promise<void> {
  entry.recheck?.stop.abort();
  await entry.recheck?.done;
  closeReadyMap(entry.blob.ready);
  await entry.persister.finish();
  await entry.data.close();
  await entry.dictionaries?.close();
}

/** Puts a larger ledger in place: on disk first. */
export async function growLedger(place: Place, record: EntryRecord, entry: OpenEntry, ledger: Ledger): Promise<void> {
  const { ino, variant } = record;
  if (entry.dictionaries) await growDictionaries(place.disk, entry.dictionaries, ledger);
  const encoded = encodeLedger({ ino, variant, ledger });
  await replaceWhole(place.disk, join(entryDirectory(place, record), 'chunks'), encoded);
  entry.ledger = written(withTablesOf(encoded, ledger));
  entry.ledgerBytes = encoded.length;
  entry.blob.chunks = entry.ledger.chunks;
  entry.blob.frames = entry.ledger.frames;
}

export function entryDirectory(place: Place, record: { key: string }): string {
  return join(place.layout.blobs, record.key);
}

/** Without what is in the `dictionaries` file now: it may be large. */
function written({ dictionaries: _, ...ledger }: Ledger): Ledger {
  return ledger;
}

function assemble(
  place: Place,
  record: EntryRecord,
  ledger: Ledger,
  ledgerBytes: number,
  files: Pick<OpenEntry, 'data' | 'dictionaries' | 'standing'>,
  ready: ReadyFile,
  map: ReadyMap,
  counted: () => void,
): OpenEntry {
  const { disk, health } = place;
  const { id, digest, digestAlgorithm, size, chunks, frames, cipher, whole } = ledger;
  const { data, dictionaries, standing } = files;
  const entry: OpenEntry = {
    blob: {
      key: record.key,
      id,
      ino: record.ino,
      digest,
      digestAlgorithm,
      size,
      dataPath: join(entryDirectory(place, record), 'data'),
      fd: data.fd,
      ready: map,
      chunks,
      frames,
      cipher,
      dictionaries: dictionaries?.fd,
      whole,
    },
    persister: createPersister({
      disk,
      health,
      key: record.key,
      map,
      data,
      ready,
      async settle() {
        if (!entry.isFresh) return;
        await syncWhole(disk, join(entryDirectory(place, record), 'chunks'));
        entry.isFresh = false;
      },
      readyPath: join(entryDirectory(place, record), 'ready'),
      written: async (file) => {
        await count(record, entry, file);
        counted();
      },
      cleared: async () => standing?.cleared(),
    }),
    ledger: written(ledger),
    ledgerBytes,
    references: 0,
    isFresh: false,
    ...files,
  };
  // Where it is needed: an object with a getter of its own takes 1 kB.
  if (standing !== undefined)
    Object.defineProperty(entry.blob, 'standing', { get: standing.current, enumerable: true });
  return entry;
}

async function count(record: EntryRecord, entry: OpenEntry, readyFile: FileHandle): Promise<void> {
  const [data, ready] = await Promise.all([entry.data.stat(), readyFile.stat()]);
  const tables = entry.ledgerBytes + entry.ledger.dictionarySize;
  record.bytes = (data.blocks + ready.blocks) * 512 + Math.ceil(tables / 4096) * 4096;
}

async function standingOf(
  place: Place,
  record: EntryRecord,
  ledger: Ledger,
  map: ReadyMap,
): Promise<StandingFile | undefined> {
  if (ledger.digestAlgorithm !== 'none') return undefined;
  return openStanding(place.disk, entryDirectory(place, record), map);
}

/** Keeps what was found of the whole. @throws what the disk says */
export async function settleEntry(place: Place, entry: OpenEntry, standing: Standing): Promise<void> {
  const { disk } = place;
  const { data, blob } = entry;
  const kept = entry.standing?.set(standing, standing === 'right' ? disk.datasync(data) : undefined);
  if (standing === 'wrong') {
    clearReady(blob.ready, 0, blob.size);
    // It stays cut: the kernel may read it in our place for who had it open, and must not find zeros.
    await disk.truncate(data, 0);
    entry.persister.changed();
  }
  await kept;
}

/** Bits of the blocks that chunks cover. */
function coverage(ledger: Ledger): Uint8Array {
  const map = createReadyMap(ledger.size);
  const { chunks } = ledger;
  for (let index = 0; index < chunks.count; index++) setReady(map, chunks.offset[index], chunks.size[index]);
  return readyBytes(map);
}

function startRecheck(place: Place, entry: OpenEntry, doubtful: Uint8Array): void {
  const { key, ready, digestAlgorithm } = entry.blob;
  // Nothing vouches for these blocks alone: they are fetched again.
  if (digestAlgorithm === 'none') return;
  const found = () => entry.persister.changed();
  const stop = new AbortController();
  const done = recheck(entry.ledger, entry.data, ready, doubtful, stop.signal, found).then(
    (result) => place.log('info', 'chunks were verified after an unclean stop of the machine', { key, ...result }),
    (error) => place.log('warn', 'chunks could not be verified', { key, error: messageOf(error) }),
  );
  entry.recheck = { stop, done };
}
