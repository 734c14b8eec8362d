/** The bootstrap job: hashes a bootstrap that is on disk. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';

export interface BootstrapRequest {
  path: string;
}

/** Bytes read in one go: bootstraps can have hundreds of MiB. */
const SLICE = 1 << 20;

/** @throws NymphError `corrupt` if the file is absent or the disk refuses to read it */
export function run({ path }: BootstrapRequest): JobResult<OciDigest> {
  try {
    return { output: `sha256:${hashFile(path)}` };
  } catch (error) {
    throw new NymphError('corrupt', `the bootstrap ${path} cannot be read: ${(error as Error).message}`);
  }
}

function hashFile(path: string): string {
  const file = openSync(path, 'r');
  try {
    const hasher = createHash('sha256');
    const buffer = Buffer.allocUnsafe(SLICE);
    for (let length = 1; length > 0; ) {
      length = readSync(file, buffer, 0, SLICE, null);
      hasher.update(buffer.subarray(0, length));
    }
    return hasher.digest('hex');
  } finally {
    closeSync(file);
  }
}
