import { corrupt, NymphError } from '../errors.ts';
import { BLOCK_SIZE, type Blob } from '../image/image.ts';
import type { CachedBlob, Readiness, Scratch, Standing } from './cache.ts';
import type { Catalogue } from './catalogue.ts';
import {
  closeEntry,
  createEntry,
  type EntryRecord,
  entryDirectory,
  growLedger,
  loadEntry,
  type OpenEntry,
  type Place,
  peekEntry,
  settleEntry,
} from './entry.ts';
import { cacheError, messageOf } from './health.ts';
import { BLOB_ID, keyOf, MAX_VARIANTS, OCI_DIGEST, parseKey } from './layout.ts';
import { checkTables, type Ledger, ledgerOf } from './ledger.ts';
import { mergeLedgers } from './merge-ledgers.ts';
import { readiness } from './readiness.ts';
import { createSerialTasks } from './serial.ts';
import type { Trash } from './trash.ts';

/** Larger blobs would need a readiness map of more than 2^31 blocks. */
const MAX_BLOB_SIZE = 2 ** 31 * BLOCK_SIZE;

export interface BlobStore {
  open(blob: Blob, data?: Scratch): Promise<CachedBlob>;
  reopen(key: string): Promise<CachedBlob | undefined>;
  others(blob: CachedBlob): string[];
  peek(key: string): Promise<Readiness | undefined>;
  release(blob: CachedBlob): Promise<void>;
  changed(blob: CachedBlob): void;
  settle(blob: CachedBlob, standing: Standing): Promise<void>;
  /** Everything that is on disk, open or not. */
  records(): Iterable<EntryRecord>;
  has(key: string): boolean;
  /** Removes an entry. False if it is open or gone. */
  evict(key: string): Promise<boolean>;
  close(): Promise<void>;
}

/** @param counted called when the bytes on disk changed */
export function createBlobStore(
  place: Place,
  catalogue: Catalogue,
  trash: Trash,
  known: EntryRecord[],
  counted: () => void,
): BlobStore {
  const records = new Map(known.map((record) => [record.key, record]));
  let clock = known.reduce((latest, record) => Math.max(latest, record.lastUsed), 0);
  // All work on the entries of one blob id is in turn: no entry is opened while it is closed or evicted.
  const tasks = createSerialTasks();
  let closed = false;

  function touch(record: EntryRecord): void {
    clock = Math.max(Date.now(), clock + 1);
    record.lastUsed = clock;
    try {
      catalogue.touchBlob(record.ino, clock);
    } catch (error) {
      place.health.failed(`last use of ${record.key}`, error);
    }
  }

  async function discard(record: EntryRecord): Promise<void> {
    try {
      await trash.discard(entryDirectory(place, record));
    } catch (error) {
      place.health.failed(`removing ${record.key}`, error);
      throw cacheError(`cannot remove the cache entry ${record.key}`, error);
    }
    records.delete(record.key);
    // A row without a directory is dropped at the next start.
    try {
      catalogue.removeBlob(record.ino);
    } catch (error) {
      place.health.failed(`catalogue row of ${record.key}`, error);
    }
  }

  /** The open entry of a record; undefined if it was damaged, and is discarded now. */
  async function load(record: EntryRecord): Promise<OpenEntry | undefined> {
    if (record.open) return record.open;
    try {
      record.open = await loadEntry(place, record, counted);
      return record.open;
    } catch (error) {
      if (!isCorrupt(error)) throw cacheError(`cannot open the cache entry ${record.key}`, error);
      place.log('error', 'a cache entry is damaged: it is discarded', { key: record.key, error: messageOf(error) });
      await discard(record);
      return undefined;
    }
  }

  async function closeIdle(record: EntryRecord): Promise<void> {
    const entry = record.open;
    if (!entry || entry.references > 0) return;
    try {
      await closeEntry(entry);
    } finally {
      record.open = undefined;
    }
  }

  /** Opens the record for these tables; undefined if they contradict it. */
  async function openAgreeing(record: EntryRecord, wanted: Ledger): Promise<CachedBlob | undefined> {
    const entry = await load(record);
    if (!entry) return undefined;
    if (entry.blob.standing === 'wrong' && entry.references === 0) {
      // Nobody reads it any more: who comes now may find a source that has it right.
      await closeIdle(record);
      await discard(record);
      return undefined;
    }
    try {
      if (!isTrusted(entry, wanted)) return undefined;
      const merged = mergeLedgers(entry.ledger, wanted);
      if (!merged) return undefined;
      if (merged !== entry.ledger) await growLedger(place, record, entry, merged);
      entry.references++;
      touch(record);
      return entry.blob;
    } catch (error) {
      place.health.failed(`ledger of ${record.key}`, error);
      throw cacheError(`cannot add chunks to the cache entry ${record.key}`, error);
    } finally {
      await closeIdle(record);
    }
  }

  async function create(id: string, variant: number, ledger: Ledger, data?: Scratch): Promise<CachedBlob> {
    const key = keyOf(id, variant);
    let ino: number | undefined;
    try {
      clock = Math.max(Date.now(), clock + 1);
      ino = catalogue.addBlob(key, clock);
      const record: EntryRecord = { key, id, variant, ino, lastUsed: clock, bytes: 0 };
      const entry = await createEntry(place, record, ledger, counted, data);
      entry.references = 1;
      record.open = entry;
      records.set(key, record);
      return entry.blob;
    } catch (error) {
      place.health.failed(`new entry ${key}`, error);
      if (ino !== undefined) removeRow(ino, key);
      throw cacheError(`cannot make the cache entry ${key}`, error);
    }
  }

  function removeRow(ino: number, key: string): void {
    try {
      catalogue.removeBlob(ino);
    } catch (error) {
      place.log('warn', 'a catalogue row is left over until the next start', { key, error: messageOf(error) });
    }
  }

  function variantsOf(id: string): EntryRecord[] {
    const found: EntryRecord[] = [];
    for (let variant = 1; variant <= MAX_VARIANTS; variant++) {
      const record = records.get(keyOf(id, variant));
      if (record !== undefined) found.push(record);
    }
    return found;
  }

  function assertOpen(): void {
    if (closed) throw new NymphError('cancelled', 'the cache is being closed');
  }

  return {
    async open(blob, data) {
      assertOpen();
      checkIdentity(blob);
      const wanted = ledgerOf(blob);
      checkTables(wanted);
      const opened = await tasks.run(blob.id, async () => {
        assertOpen();
        for (const record of variantsOf(blob.id)) {
          const found = await openAgreeing(record, wanted);
          if (found) return found;
        }
        const taken = new Set(variantsOf(blob.id).map((record) => record.variant));
        for (let variant = 1; variant <= MAX_VARIANTS; variant++) {
          if (!taken.has(variant)) return create(blob.id, variant, wanted, data);
        }
        throw new NymphError('cache', `more than ${MAX_VARIANTS} images contradict each other about blob ${blob.id}`, {
          hint: 'Remove the images that are not in use with `nymph prune`.',
        });
      });
      counted();
      return opened;
    },

    async reopen(key) {
      assertOpen();
      const id = parseKey(key)?.id;
      if (id === undefined) return undefined;
      return tasks.run(id, async () => {
        assertOpen();
        const record = records.get(key);
        const entry = record && (await load(record));
        if (!record || !entry) return undefined;
        entry.references++;
        touch(record);
        return entry.blob;
      });
    },

    others: ({ key, digest }) =>
      variantsOf(digest.slice('sha256:'.length)).flatMap((record) => (record.key === key ? [] : [record.key])),

    async peek(key) {
      assertOpen();
      const id = parseKey(key)?.id;
      if (id === undefined) return undefined;
      return tasks.run(id, async () => {
        const record = records.get(key);
        if (!record) return undefined;
        if (record.open) {
          const { chunks, ready, standing } = record.open.blob;
          return { ...readiness(chunks, ready), ...(standing && { standing }) };
        }
        try {
          return await peekEntry(place, record);
        } catch (error) {
          // Who opens it next discards it, and says so.
          if (isCorrupt(error)) return undefined;
          throw cacheError(`cannot read the cache entry ${key}`, error);
        }
      });
    },

    async release(blob) {
      await tasks.run(blob.id, async () => {
        const record = records.get(blob.key);
        if (closed) return;
        if (record?.open?.blob !== blob || record.open.references === 0)
          throw new NymphError('internal', `cache entry ${blob.key} was released more often than opened`);
        record.open.references--;
        touch(record);
        await closeIdle(record);
      });
      counted();
    },

    changed(blob) {
      const entry = records.get(blob.key)?.open;
      if (entry?.blob === blob) entry.persister.changed();
    },

    async settle(blob, standing) {
      const entry = records.get(blob.key)?.open;
      if (entry?.blob !== blob) return;
      try {
        await settleEntry(place, entry, standing);
      } catch (error) {
        place.health.failed(`standing of ${blob.key}`, error);
      }
      counted();
    },

    records: () => records.values(),
    has: (key) => records.has(key),

    async evict(key) {
      const id = parseKey(key)?.id;
      if (id === undefined) return false;
      return tasks.run(id, async () => {
        const record = records.get(key);
        if (!record || record.open) return false;
        await discard(record);
        return true;
      });
    },

    async close() {
      closed = true;
      await tasks.idle();
      await Promise.all(
        Array.from(records.values(), (record) => {
          if (record.open) record.open.references = 0;
          return closeIdle(record);
        }),
      );
    },
  };
}

/** Whether bytes that nothing vouches for yet come from where the newcomer would take them, too; wrong ones are nobody's. */
function isTrusted({ blob, ledger }: OpenEntry, wanted: Ledger): boolean {
  if (blob.standing === undefined || blob.standing === 'right') return true;
  return blob.standing === 'pending' && ledger.origin === wanted.origin;
}

function isCorrupt(error: unknown): boolean {
  return error instanceof NymphError && error.code === 'corrupt';
}

/** @throws NymphError `corrupt`: nothing of a blob becomes a path before this */
function checkIdentity(blob: Blob): void {
  if (!BLOB_ID.test(blob.id)) throw corrupt('blob', 'id', 0, `${JSON.stringify(blob.id)} is not 64 hex characters`);
  if (!OCI_DIGEST.test(blob.digest)) throw corrupt('blob', 'digest', 0, `${JSON.stringify(blob.digest)} is no digest`);
  if (!Number.isSafeInteger(blob.size) || blob.size < 0 || blob.size >= MAX_BLOB_SIZE)
    throw corrupt('blob', 'size', 0, `${blob.size} is not possible`);
}
