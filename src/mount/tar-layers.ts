import type { Scratch } from '../cache/cache.ts';
import type { Progress } from '../daemon/api.ts';
import type { HeldTar } from '../formats/files/layers.ts';
import { seekableTar } from '../formats/tar/bytes.ts';
import { indexDigest } from '../formats/tar/index-digest.ts';
import { tarMembers } from '../formats/tar/members.ts';
import type { Layer, LayerPlan } from '../image/files.ts';
import type { OciDigest, StreamCodec } from '../image/image.ts';
import type { Repository } from '../sources/source.ts';
import { readWhole } from '../sources/whole.ts';
import { createUnpacker, type Unpacker } from './unpack.ts';
import type { UnpackedLayers } from './unpacked-layers.ts';

/** What the tars among an artifact's layers hold. */
export interface TarLayers {
  readonly held: ReadonlyMap<LayerPlan, HeldTar>;
  /** What was unpacked, by the digest of the layer. */
  readonly data: ReadonlyMap<OciDigest, Scratch>;
  /** What could not be kept. */
  readonly warnings: readonly string[];
}

export interface TarLayersOptions {
  from: Repository;
  /** Nothing counts that no digest vouches for: all tars are read whole. */
  strict: boolean;
  /** Where layers that are read whole are kept; without, nowhere. */
  layers?: UnpackedLayers;
  progress(progress: Progress): void;
  signal: AbortSignal;
}

/** Layers whose headers are looked for at once: each takes two round trips or more. */
const SEARCHES = 16;
/** Layers that are read whole at once, each with a thread. */
const UNPACKERS = 2;
/** A tar up to this is fetched whole, and compared with its digest before a header of it is believed. */
const SMALL = 1 << 20;

type TarPlan = LayerPlan & { holds: { kind: 'tar' } };

/**
 * Finds out what tars hold. Of those that are not packed only headers are read, unless it has to be sure; the others are
 * read once, from the first byte to the last, and what they unpack to is kept.
 * @throws NymphError as {@link tarMembers}; `corrupt` if a layer does not have its digest; what the source says
 */
export async function readTars(plans: readonly LayerPlan[], options: TarLayersOptions): Promise<TarLayers> {
  const { strict } = options;
  const found = new Map<OciDigest, HeldTar>();
  const data = new Map<OciDigest, Scratch>();
  const warnings: string[] = [];
  const tars = new Map(plans.filter(isTar).map((plan) => [plan.layer.digest, plan]));
  const isWhole = ({ layer, holds }: TarPlan) => holds.codec !== 'none' || (strict && layer.size > SMALL);
  const whole = [...tars.values()].filter(isWhole);
  const searched = [...tars.values()].filter((plan) => !isWhole(plan));
  try {
    await together(searched, SEARCHES, async (next) => {
      for (const { layer } of next) found.set(layer.digest, await searchTar(layer, options));
    });
    await unpackAll(whole, options, { found, data, warnings });
  } catch (error) {
    for (const scratch of data.values()) await scratch.discard();
    throw error;
  }
  return {
    held: new Map(plans.filter(isTar).map((plan) => [plan, found.get(plan.layer.digest)!])),
    data,
    warnings,
  };
}

interface Results {
  found: Map<OciDigest, HeldTar>;
  data: Map<OciDigest, Scratch>;
  warnings: string[];
}

function isTar(plan: LayerPlan): plan is TarPlan {
  return plan.holds.kind === 'tar';
}

/** Has a list worked on by several at once. Rejects with the first failure when all have ended. */
async function together<T>(
  list: readonly T[],
  width: number,
  work: (next: Iterable<T>) => Promise<void>,
): Promise<void> {
  const next = list.values();
  const workers = Array.from({ length: Math.min(width, list.length) }, () => work(next));
  const failed = (await Promise.allSettled(workers)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

const nameOf = ({ digest }: Layer, { reference }: Repository) => `the tar ${digest} of ${reference}`;

/** Reads the headers of a tar that is not packed. */
async function searchTar(layer: Layer, { from, signal }: TarLayersOptions): Promise<HeldTar> {
  const { digest, size } = layer;
  const whole = size <= SMALL ? Buffer.from(await from.get({ digest, size }, SMALL, signal)) : undefined;
  const source = from.open({ digest, size });
  const readAt = async (offset: number, length: number): Promise<Buffer> => {
    if (whole !== undefined) return whole.subarray(offset, offset + length);
    const pieces: Uint8Array[] = [];
    for await (const piece of readWhole(source, offset + length, signal, offset)) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  const members = await tarMembers(seekableTar(readAt, size), nameOf(layer, from));
  return whole === undefined ? { members, index: indexDigest(members) } : { members };
}

async function unpackAll(plans: readonly TarPlan[], options: TarLayersOptions, results: Results): Promise<void> {
  const total = plans.reduce((sum, { layer }) => sum + layer.size, 0);
  let done = 0;
  const counted = (bytes: number) => {
    done += bytes;
    options.progress({ stage: 'unpacking', done, total });
  };
  await together(plans, UNPACKERS, async (next) => {
    let unpacker: Unpacker | undefined;
    try {
      for (const { layer, holds } of next) {
        const known = await knownTar(layer, holds.codec, options);
        if (known !== undefined) counted(layer.size);
        else unpacker ??= createUnpacker();
        const held = known ?? (await unpackTar(layer, holds.codec, unpacker!, options, counted, results));
        results.found.set(layer.digest, held);
      }
    } finally {
      await unpacker?.close();
    }
  });
}

/** A layer that another artifact has, too, or an earlier revision. */
async function knownTar(
  layer: Layer,
  codec: StreamCodec,
  { layers, from }: TarLayersOptions,
): Promise<HeldTar | undefined> {
  const here = await layers?.find(layer.digest, codec);
  if (here === undefined) return undefined;
  try {
    const { size, digests } = here;
    const members = await tarMembers(seekableTar(here.read, size), nameOf(layer, from));
    return { members, unpacked: { codec, size, digests } };
  } catch {
    // The disk has damaged it: it is read again.
    return undefined;
  } finally {
    await here.release();
  }
}

async function unpackTar(
  layer: Layer,
  codec: StreamCodec,
  unpacker: Unpacker,
  { from, layers, signal }: TarLayersOptions,
  counted: (bytes: number) => void,
  { data, warnings }: Results,
): Promise<HeldTar> {
  const { digest, size } = layer;
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for await (const piece of readWhole(from.open({ digest, size }), size, signal)) {
      counted(piece.length);
      yield piece;
    }
  }
  const scratch = await layers?.scratch();
  if (scratch !== undefined) data.set(digest, scratch);
  const task = { codec, digest, name: nameOf(layer, from), ...(scratch && { fd: scratch.fd }) };
  const unpacked = await unpacker.unpack(task, pieces(), signal);
  if (scratch !== undefined && !unpacked.kept) {
    warnings.push(`${task.name} is not kept unpacked, so each read of it unpacks it again: ${unpacked.reason}`);
    data.delete(digest);
    await scratch.discard();
  }
  return { members: unpacked.members, unpacked: { codec, size: unpacked.size, digests: unpacked.digests } };
}
