import { createHash } from 'node:crypto';
import type { OciDigest } from '../image/image.ts';

/**
 * The name of what is mounted of an artifact: its manifest's digest, or one of that and the subset, in which trees differ.
 * @param subset in the order of {@link parseSubset}
 */
export function subsetDigest(manifest: OciDigest, subset: readonly string[] | undefined): OciDigest {
  if (subset === undefined) return manifest;
  return `sha256:${createHash('sha256')
    .update(JSON.stringify([manifest, subset]))
    .digest('hex')}`;
}
