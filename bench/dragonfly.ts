/** What the measurements with a real Dragonfly have in common: something to get, and who gets it besides nymph. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeOciLayout } from '../src/build/oci-layout.ts';
import { buildRafsV6 } from '../src/formats/rafs/write/build.ts';
import { walkDirectory } from '../src/formats/rafs/write/directory.ts';
import { noCluster } from '../test/dragonfly/cluster.ts';
import { layersOf } from './layout.ts';
import { writeNoise } from './local-image.ts';
import type { Place } from './place.ts';
import { run } from './processes.ts';
import type { Remote } from './remote.ts';

export interface RaceOptions {
  rounds: number;
  /** `fast-warm`, … of the race, fates of a dfdaemon for faults; all by default. */
  cells?: readonly string[];
}

/** @throws Error where there is no Dragonfly to race with */
export function requireCluster(): void {
  const missing = noCluster();
  if (missing !== false) throw new Error(`the race cannot be measured here: ${missing}`);
}

export const NOISE_TAG = 'bench';
/** The one file of such an image. */
export const NOISE_FILE = 'file';

/**
 * An image of one file that does not compress: what is measured is how its bytes come, not decoding.
 * @param bytes of the file @returns its OCI layout
 */
export async function noiseImage(place: Place, name: string, bytes: number, chunkSize?: number): Promise<string> {
  const home = join(place.kept, name);
  const layout = join(home, 'layout');
  await rm(home, { recursive: true, force: true });
  await mkdir(join(home, 'tree'), { recursive: true });
  await writeNoise(join(home, 'tree', NOISE_FILE), bytes);
  const built = await buildRafsV6(walkDirectory(join(home, 'tree')), {
    bootstrap: join(home, 'bootstrap'),
    blobs: join(layout, 'blobs', 'sha256'),
    compressor: 'none',
    ...(chunkSize === undefined ? {} : { chunkSize }),
  });
  await writeOciLayout(layout, built, { tag: NOISE_TAG });
  await writeFile(join(home, 'finished'), '');
  return layout;
}

/** Of all layers of an image in a registry. @param name of its repository there */
export async function blobUrls({ host }: Remote, layout: string, tag: string, name: string): Promise<string[]> {
  return (await layersOf(layout, tag)).map(({ digest }) => `http://${host}/v2/${name}/blobs/${digest}`);
}

/** Has a dfdaemon fetch an object, into a directory. @param tag of the task @returns ms */
export async function dfget(url: string, tag: string, socket: string, to: string): Promise<number> {
  const output = join(to, `nymph-dfget-${process.pid}`);
  await rm(output, { force: true });
  const { total } = await run('dfget', [url, '--output', output, '--tag', tag, '--endpoint', socket]);
  // Where it is a link to dfdaemon's own file, nothing may be written to it.
  await rm(output, { force: true });
  return total;
}
