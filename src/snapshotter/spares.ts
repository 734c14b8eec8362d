import type { Directories } from './directories.ts';

/**
 * Ids for new snapshots, and their directories. Some are made before anybody asks: making directories takes longer than
 * all else that a client waits for, and each step of it is a thread that has to wake. One that nobody took has a higher
 * id than any record, so the next start clears it away as it does what a cut-off call left (`recover.ts`).
 */
export interface Spares {
  /** Ids go out in ascending order. `made` resolves when the directories are there. */
  take(): { id: number; made: Promise<void> };
  /** Makes up for those that were taken, in the background, when few are left. */
  refill(): void;
  /** Ids that nobody took yet. */
  ids(): number[];
  /** Makes no more; resolves when nothing is under way. */
  close(): Promise<void>;
}

interface Spare {
  id: number;
  made: Promise<void>;
}

/** Made with one sync, one after another, once there are fewer than `LOW`: together they would take all processors from calls. */
const COUNT = 8;
const LOW = 3;

/**
 * @param lastId the highest that must not come again
 * @param release clears away what there is of an id
 */
export function createSpares(
  directories: Pick<Directories, 'make' | 'sync'>,
  lastId: number,
  release: (id: number) => void,
): Spares {
  const waiting: Spare[] = [];
  let refilling: Promise<void> | undefined;
  let last = lastId;
  let closed = false;

  function make(): Spare {
    const id = ++last;
    return { id, made: directories.make(id) };
  }

  async function fill(): Promise<void> {
    const added: Spare[] = [];
    for (let count = waiting.length; count < COUNT && !closed; count++) {
      const spare = make();
      waiting.push(spare);
      await spare.made.then(
        () => added.push(spare),
        () => drop(spare),
      );
    }
    const newest = added.at(-1);
    if (newest !== undefined) await directories.sync(newest.id).catch(() => added.forEach(drop));
  }

  /** Whoever took it meanwhile hears of what went wrong, or syncs again. */
  function drop(spare: Spare): void {
    const at = waiting.indexOf(spare);
    if (at < 0) return;
    waiting.splice(at, 1);
    release(spare.id);
  }

  return {
    take: () => waiting.shift() ?? make(),
    refill() {
      if (closed || waiting.length >= LOW) return;
      refilling ??= fill().finally(() => {
        refilling = undefined;
      });
    },
    ids: () => waiting.map(({ id }) => id),
    async close() {
      closed = true;
      await refilling;
    },
  };
}
