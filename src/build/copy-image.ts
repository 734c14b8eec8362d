import type { Repository } from '../sources/source.ts';
import type { Target } from '../sources/target.ts';
import { readWhole } from '../sources/whole.ts';
import type { BuildControl } from './build-image.ts';
import { createPortion, eachOf } from './several.ts';
import type { SourceImage } from './source-image.ts';

const BLOBS_AT_ONCE = 3;

/**
 * Puts an ordinary image as it is to a target, under its digest.
 * @param mountFrom repository of the target's registry that has it
 */
export async function copyImage(
  from: Repository,
  to: Target,
  image: SourceImage,
  mountFrom: string | undefined,
  { progress, signal }: BuildControl,
): Promise<void> {
  const blobs = [...image.layers, image.configDescriptor];
  const portion = createPortion(blobs.map(({ size }) => size));
  await eachOf(blobs, BLOBS_AT_ONCE, signal, async (blob, number, ownSignal) => {
    const source = from.open(blob);
    const report = (bytes: number) => {
      portion.set(number, bytes);
      progress({ stage: 'copying the ordinary image', done: portion.done, total: portion.total });
    };
    const read = async (offset: number, readSignal: AbortSignal) => readWhole(source, blob.size, readSignal, offset);
    await to.put({ digest: blob.digest, size: blob.size, read, from: mountFrom, progress: report }, ownSignal);
    report(blob.size);
  });
  await to.putManifest(image.manifest, {}, signal);
}
