/** Images that are read by a configuration of nydusd: blobs in a folder by their ids, a bootstrap, and configurations beside. */

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { OciDigest } from '../src/image/image.ts';
import { formatReference } from '../src/sources/reference.ts';
import { madeBytes } from './registry/layout.ts';

export interface MadeBlobs {
  /** Holds the blobs by id. */
  blobs: string;
  bootstrap: string;
  large: { digest: OciDigest; bytes: Buffer };
  small: { digest: OciDigest; bytes: Buffer };
}

/** Two megabytes that nobody can guess, and a file that stands for a bootstrap. */
export async function makeBlobs(directory: string): Promise<MadeBlobs> {
  const blobs = join(directory, 'blobs');
  await mkdir(blobs, { recursive: true });
  const large = named(madeBytes(2_000_000, 7));
  const small = named(madeBytes(9_000, 8));
  await writeFile(join(blobs, large.digest.slice('sha256:'.length)), large.bytes);
  const bootstrap = join(directory, 'bootstrap');
  await writeFile(bootstrap, small.bytes);
  return { blobs, bootstrap, large, small };
}

/** Writes a configuration of version 1 with this backend. @returns its file */
export function writeConfig(file: string, type: string, config: object, more: object = {}): string {
  const text = JSON.stringify({
    device: { backend: { type, config }, cache: { type: 'blobcache' } },
    mode: 'direct',
    ...more,
  });
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

/** The reference of a bootstrap whose blobs are where a configuration says. */
export function nydusdReference(config: string, bootstrap: string): string {
  return formatReference({ kind: 'nydusd', config, image: { kind: 'bootstrap', path: bootstrap } });
}

function named(bytes: Buffer): { digest: OciDigest; bytes: Buffer } {
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, bytes };
}
