import { NymphError } from '../errors.ts';
import { cancelled } from '../fetch/gate.ts';
import type { ObjectRange } from '../formats/rafs/chunk-info.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { type LoadedImage, type LoadInput, type LoadOutcome, type LoadRequest, rangeKey } from './load-types.ts';

/** Reads and checks a bootstrap. */
export const LOAD = jobBeside<LoadRequest, LoadOutcome>(import.meta.url, 'load-job');
/** The bootstrap inside a blob, then the chunk information of batches and contexts. */
const MOST_ROUNDS = 3;

/**
 * Reads and checks an image on a work thread.
 * @param sizes of objects, by id, as far as they are known
 * @param fetchRange reads a range of an object, for bootstraps inside blobs and for chunk information.
 * @throws NymphError `corrupt` or `unsupported`, naming structure, field and offset.
 */
export async function loadImage(
  pool: ThreadPool,
  input: LoadInput,
  sizes: ReadonlyMap<string, number>,
  fetchRange: (range: ObjectRange) => Promise<Uint8Array>,
  signal: AbortSignal,
): Promise<LoadedImage> {
  const ranges = new Map<string, Uint8Array>();
  for (let round = 0; round < MOST_ROUNDS; round++) {
    if (signal.aborted) throw cancelled();
    const outcome = await pool.run(LOAD, { input, sizes, ranges });
    if (outcome.type === 'done') return outcome.loaded;
    const bytes = await Promise.all(outcome.ranges.map(fetchRange));
    for (const [i, range] of outcome.ranges.entries()) ranges.set(rangeKey(range), bytes[i]);
  }
  throw new NymphError('internal', 'the loader asks for ever more');
}
