import { resolve } from 'node:path';
import type { MountOptions } from '../daemon/api.ts';
import { NymphError } from '../errors.ts';
import { readNydusdConfig } from '../sources/nydusd/config-file.ts';
import type { IdleKey } from '../sources/nydusd/fields.ts';
import { formatReference, parseReference } from '../sources/reference.ts';
import { canonicalReference } from './reference.ts';

/** An image of a configuration of nydusd, as the daemon takes it. */
export interface NydusdImage {
  reference: string;
  prefetch: MountOptions['prefetch'];
  idle: readonly IdleKey[];
  /** The configuration's, absolute. */
  file: string;
}

/**
 * Reads a configuration of nydusd, so that what is wrong with it is said before a daemon starts. The daemon gets its
 * name alone, and reads it by itself: what is secret in it stays in it.
 * @throws NymphError `config`, `usage`, `not-found`, `denied`, `unsupported`
 */
export async function readNydusd(
  config: string,
  image: { bootstrap: string } | { reference: string },
): Promise<NydusdImage> {
  const file = resolve(config);
  const { prefetch, idle } = await readNydusdConfig(file);
  const inner =
    'bootstrap' in image
      ? ({ kind: 'bootstrap', path: resolve(image.bootstrap) } as const)
      : parseReference(canonicalReference(image.reference));
  if (inner.kind === 'folder' || inner.kind === 'nydusd' || inner.kind === 'hub')
    throw new NymphError('usage', `--nydusd-config does not go with ${formatReference(inner)}`, {
      hint: 'It says where the blobs of a registry’s or layout’s image are.',
    });
  return { reference: formatReference({ kind: 'nydusd', config: file, image: inner }), prefetch, idle, file };
}
