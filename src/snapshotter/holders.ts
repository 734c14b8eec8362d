/**
 * Who needs which directory. The first to hold one has it opened, all others wait for that; when the last lets go it is
 * shut. Opening and shutting of one directory never overlap.
 */
export interface Holders {
  /** Resolves when the directory is open. Rejects, and holds nothing, if it cannot be opened. */
  hold(directory: string, holder: Holder, origin: string): Promise<void>;
  /** A holder from before a restart: the directory is opened when somebody next asks for it. */
  adopt(directory: string, holder: Holder): void;
  /** Resolves when what it held alone is shut. Rejects if that fails: it stays open, for {@link shutIdle}. */
  letGo(holder: Holder): Promise<void>;
  /** Shuts a directory unless somebody holds it by now. Rejects if that fails. */
  shutIdle(directory: string): Promise<void>;
  isHeld(directory: string): boolean;
}

/** Id of a snapshot, or the name of something that passes. */
export type Holder = number | string;

export interface OpenAndShut {
  /** Called for each `hold`: cheap where the directory is open. */
  open: (directory: string, origin: string) => Promise<void>;
  shut: (directory: string) => Promise<void>;
}

export function createHolders({ open, shut }: OpenAndShut): Holders {
  const holders = new Map<string, Set<Holder>>();
  /** The last work on each directory that has some. */
  const turns = new Map<string, Promise<void>>();
  const opening = new Map<string, Promise<void>>();

  /** @returns false if it is one already */
  function add(directory: string, holder: Holder): boolean {
    const all = holders.get(directory) ?? new Set();
    if (all.has(holder)) return false;
    holders.set(directory, all.add(holder));
    return true;
  }

  function remove(directory: string, holder: Holder): boolean {
    const all = holders.get(directory);
    if (!all?.delete(holder) || all.size > 0) return false;
    holders.delete(directory);
    return true;
  }

  function inTurn(directory: string, work: () => Promise<void>): Promise<void> {
    const before = turns.get(directory);
    const mine = before === undefined ? work() : before.then(work, work);
    turns.set(directory, mine);
    const done = () => {
      if (turns.get(directory) === mine) turns.delete(directory);
    };
    mine.then(done, done);
    return mine;
  }

  async function hold(directory: string, holder: Holder, origin: string): Promise<void> {
    const added = add(directory, holder);
    let work = opening.get(directory);
    if (work === undefined) {
      work = inTurn(directory, () => open(directory, origin)).finally(() => opening.delete(directory));
      opening.set(directory, work);
    }
    try {
      await work;
    } catch (error) {
      if (added) remove(directory, holder);
      throw error;
    }
  }

  function shutIdle(directory: string): Promise<void> {
    return inTurn(directory, async () => {
      // Somebody may have come in the meantime.
      if (!holders.has(directory)) await shut(directory);
    });
  }

  async function letGo(holder: Holder): Promise<void> {
    const left = [...holders.keys()].filter((directory) => remove(directory, holder));
    const shutting = left.map(shutIdle);
    await Promise.allSettled(shutting);
    await Promise.all(shutting);
  }

  return {
    hold,
    adopt: (directory, holder) => void add(directory, holder),
    letGo,
    shutIdle,
    isHeld: (directory) => holders.has(directory),
  };
}
