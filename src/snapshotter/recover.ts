import type { Log } from '../cache/health.ts';
import type { Directories } from './directories.ts';
import type { Durability } from './durability.ts';
import type { LazyLayers } from './lazy.ts';
import type { SnapshotRecord, Store } from './store.ts';

export interface RecoverParts {
  store: Store;
  durability: Durability;
  directories: Directories;
  /** Without it every image is unpacked. */
  lazy?: LazyLayers;
  log: Log;
}

const PAGE = 500;

/**
 * Brings records and directories together after whatever end the last daemon had, then has lazy images taken up.
 * @returns the highest id that must not come again
 */
export async function recover({ store, durability, directories, lazy, log }: RecoverParts): Promise<number> {
  const present = directories.present();
  const records: SnapshotRecord[] = [];
  for (let after = 0; ; after = records[records.length - 1].id) {
    const page = store.page(after, PAGE);
    if (page.length === 0) break;
    records.push(...page);
  }
  const lost = records.filter(({ id }) => !present.has(id));
  for (const record of lost) {
    if (record.lazy) await directories.make(record.id);
    else
      log('error', 'a snapshot has lost its directory', {
        snapshot: record.name,
        directory: directories.fs(record.id),
      });
    // Both come before the answer, so nobody was told of it.
    if (record.kind !== 'committed') store.remove(record.name);
  }
  // Calls that were cut off, and those that did not come, have higher ids than any record: their directories go before
  // the numbers come again. Where they cannot (a full disk), the numbers do not; cleaning tries again, and says why.
  const recorded = store.lastId();
  let lastId = recorded;
  const numbered = [...present].filter((id) => id > recorded);
  await Promise.all(
    numbered.map((id) =>
      directories.discard(id).catch(() => {
        lastId = Math.max(lastId, id);
      }),
    ),
  );
  await durability.sync();
  await lazy?.restore(records.filter((record) => record.kind === 'committed' || !lost.includes(record)));
  return lastId;
}
