import type { CachedBlob } from '../cache/cache.ts';
import type { FetchContext } from './context.ts';
import { type FrameIndex, storedEnd } from './frame-index.ts';
import { bytesOfBlob } from './statistics.ts';
import type { Wholeness } from './wholeness.ts';

export interface GetAheadParts {
  blob: CachedBlob;
  context: FetchContext;
  wholeness: Wholeness;
  ending: AbortSignal;
  tables(): FrameIndex;
  pause(milliseconds: number): Promise<void>;
  /** Whether still nobody has the blob. */
  isNew(): Promise<boolean>;
}

/** Nobody is asked to seed what our own requests will have brought within so many ms. */
const SOON = 10_000;

/**
 * Nobody in the swarm has a blob: who would seed it now, and our own part of the swarm, would take from the source what we
 * get from there. Resolves when it is whole, or somebody has it after all; or when our requests alone will take long, as
 * where many nodes want it at once.
 */
export async function getAhead(parts: GetAheadParts): Promise<void> {
  const { blob, context, wholeness, ending, tables, pause, isNew } = parts;
  const { race, statistics, policy } = context;
  while (race.budget.wait() === 0 && !ending.aborted) {
    const begun = race.clock.now();
    const before = bytesOfBlob(statistics, blob.key);
    await pause(policy.streamDelay);
    const rate = (bytesOfBlob(statistics, blob.key) - before) / (race.clock.now() - begun);
    if (wholeness.isWhole() || !(await isNew())) return;
    if (storedEnd(tables()) * wholeness.missing() > rate * SOON) return;
  }
}
