import type { Cache, StoredImage } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { BootstrapRequest } from './bootstrap-job.ts';

const BOOTSTRAP = jobBeside<BootstrapRequest, OciDigest>(import.meta.url, 'bootstrap-job');

/**
 * Compares an image's bootstrap in the cache with the digest that it had when it was verified, on a work thread.
 * @throws NymphError `corrupt`, naming the file, if it is damaged or absent, or if its digest was not kept
 */
export async function checkBootstrap(stored: StoredImage, cache: Cache, pool: ThreadPool): Promise<void> {
  const path = cache.bootstrapPath(stored.digest);
  const wanted = stored.bootstrapDigest;
  if (wanted === undefined)
    throw new NymphError('corrupt', `the bootstrap ${path} cannot be checked: its digest was not kept`);
  const found = await pool.run(BOOTSTRAP, { path });
  if (found !== wanted)
    throw new NymphError('corrupt', `the bootstrap ${path} is damaged: its digest is ${found}, not ${wanted}`);
}
