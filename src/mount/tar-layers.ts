import { NymphError } from '../errors.ts';
import type { HeldTar } from '../formats/files/layers.ts';
import { seekableTar } from '../formats/tar/bytes.ts';
import { tarMembers } from '../formats/tar/members.ts';
import type { Layer, LayerPlan } from '../image/files.ts';
import type { OciDigest } from '../image/image.ts';
import type { Repository } from '../sources/source.ts';
import { readWhole } from '../sources/whole.ts';

/** Layers that are looked into at once: each takes two round trips or more. */
const AT_ONCE = 16;
/** A tar up to this is fetched whole, and compared with its digest before a header of it is believed. */
const SMALL = 1 << 20;

/**
 * Finds out what the tars among an artifact's layers hold. Of those that are not packed only headers are read.
 * @throws NymphError as {@link tarMembers}, or what the source says
 */
export async function readTars(
  plans: readonly LayerPlan[],
  from: Repository,
  signal: AbortSignal,
): Promise<Map<LayerPlan, HeldTar>> {
  const found = new Map<LayerPlan, HeldTar>();
  const known = new Map<OciDigest, Promise<HeldTar>>();
  const left = plans.values();
  const worker = async () => {
    for (const plan of left) {
      const { layer, holds } = plan;
      if (holds.kind !== 'tar') continue;
      const reading = known.get(layer.digest) ?? readTar(layer, holds.codec, from, signal);
      known.set(layer.digest, reading);
      found.set(plan, await reading);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return found;
}

async function readTar(layer: Layer, codec: string, from: Repository, signal: AbortSignal): Promise<HeldTar> {
  const name = `the tar ${layer.digest} of ${from.reference}`;
  if (codec !== 'none')
    throw new NymphError('unsupported', `${name} is packed (${layer.mediaType}), which is not served yet`, {
      hint: 'Build it again without compression.',
    });
  const { digest, size } = layer;
  const whole = size <= SMALL ? Buffer.from(await from.get({ digest, size }, SMALL, signal)) : undefined;
  const source = from.open({ digest, size });
  const readAt = async (offset: number, length: number): Promise<Buffer> => {
    if (whole !== undefined) return whole.subarray(offset, offset + length);
    const pieces: Uint8Array[] = [];
    for await (const piece of readWhole(source, offset + length, signal, offset)) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  return { members: await tarMembers(seekableTar(readAt, size), name) };
}
