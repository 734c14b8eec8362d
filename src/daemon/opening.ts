import type { Cache } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { SMALLEST } from '../fetch/inflow.ts';
import { type Guarantee, guaranteeOf, type OciDigest } from '../image/image.ts';
import { type AttachedImage, attach, reattach } from '../mount/attach.ts';
import type { FoundImage, ImageOpener, OpenedImage, OpenSource } from '../mount/open.ts';
import type { ServedBlobs } from '../mount/served.ts';
import { STARTUP_FILES, type Startup } from '../mount/startup.ts';
import { subsetDigest } from '../mount/subset.ts';
import { createUnpackedLayers } from '../mount/unpacked-layers.ts';
import type { Nearby } from '../sources/nearby.ts';
import type { Choice, Progress } from './api.ts';
import type { Policy } from './policy.ts';

/** From a reference to an image whose blobs are served: from the cache where it has all of it, else from its place. */
export type Opening = (
  reference: string,
  platform: string | undefined,
  progress: (p: Progress) => void,
  signal: AbortSignal,
  options?: OpeningOptions,
) => Promise<OpenImage>;

export interface OpeningOptions {
  /** Who may have manifest and bootstrap at hand. */
  nearby?: Nearby;
  /** Nothing of it is read before it was compared with a digest. */
  strict?: boolean;
  /** Of a model: kinds and patterns of files. Others are not there. */
  subset?: readonly string[];
  /** All of it will be fetched. */
  whole?: boolean;
}

export interface OpenImage {
  image: AttachedImage;
  choice?: Choice;
  /** Of an image that was not here. */
  trace?: OpenedImage['trace'];
}

export interface OpeningParts {
  cache: Cache;
  blobs: ServedBlobs;
  opener: ImageOpener;
  startup: Startup;
  policy: Policy;
  context: FetchContext;
}

export function createOpening({ cache, blobs, opener, startup, policy, context }: OpeningParts): Opening {
  const { log } = context;
  const layers = createUnpackedLayers(cache);

  async function open(
    reference: string,
    platform: string | undefined,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    { nearby, strict = false, subset, whole = false }: OpeningOptions = {},
  ): Promise<OpenImage> {
    // A manifest that is known by its digest is never another one: nobody needs to be asked.
    const pinned = opener.pinned(reference);
    if (pinned && cache.image(subsetDigest(pinned, subset)) !== undefined)
      await policy.permit(opener.canonical(reference), pinned, signal);
    const here =
      pinned &&
      (await openCached(
        subsetDigest(pinned, subset),
        opener.canonical(reference),
        () => opener.sources(reference),
        strict,
      ));
    if (here !== undefined) return { image: here };
    const found = await opener.resolve(reference, platform, progress, signal, nearby);
    await policy.permit(found.reference, found.digest, signal);
    const cached = await openCached(subsetDigest(found.digest, subset), found.reference, () => found.source, strict);
    const { choice } = found;
    if (cached !== undefined) return { image: cached, choice };
    if (whole && subset === undefined) await beginAhead(found);
    const opened = await found.open(progress, signal, { strict, layers, subset });
    let image: AttachedImage;
    try {
      if (strict) requireDigests(opened.image.blobs.map(guaranteeOf), opened.reference);
      for (const why of opened.warnings ?? []) log('warn', 'an image is odd', { image: opened.reference, why });
      image = await attach(opened, cache, blobs, strict);
    } finally {
      for (const scratch of opened.data?.values() ?? []) await scratch.discard();
    }
    if (opened.files === undefined)
      startup.watch(image, context.pool.run(STARTUP_FILES, { bootstrap: image.bootstrap }));
    return { image, choice, trace: opened.trace };
  }

  /** Has the swarm begin with what will be fetched, while the bootstrap is read. */
  async function beginAhead({ layers, source }: FoundImage): Promise<void> {
    const { headStarts } = context.race;
    if (headStarts === undefined || !context.race.isOpen()) return;
    for (const { digest, size } of layers) {
      if (size < SMALLEST || (await cache.peek(digest.slice('sha256:'.length))) !== undefined) continue;
      const place = source({ digest });
      headStarts.begin({ digest, location: async (signal, refusals) => place.location?.(signal, refusals) });
    }
  }

  /** @returns undefined if the cache does not have all of it in order */
  async function openCached(
    digest: OciDigest,
    reference: string,
    source: () => OpenSource,
    strict: boolean,
  ): Promise<AttachedImage | undefined> {
    const known = cache.image(digest);
    if (known === undefined) return undefined;
    // Where the files of its tars lie is not sure before those are complete.
    if (strict && known.blobs.some(({ index }) => index !== undefined)) return undefined;
    if (strict)
      requireDigests(
        known.blobs.map(({ guarantee }) => guarantee ?? 'chunk'),
        reference,
      );
    try {
      const image = await reattach({ ...known, reference }, cache, blobs, source(), context.pool, strict);
      if (image.blobs.every(({ cached }) => cached.standing !== 'wrong')) return image;
      // Its source may have it right by now.
      await image.release();
      log('info', 'reading an image again', { image: reference, why: 'a file of it came wrong' });
      return undefined;
    } catch (error) {
      const damaged = error instanceof NymphError && error.code === 'corrupt';
      log(damaged ? 'warn' : 'info', 'reading an image again', { image: reference, why: (error as Error).message });
      return undefined;
    }
  }

  return open;
}

/** @throws NymphError `unsupported` if there are files that nothing can be compared with */
function requireDigests(guarantees: readonly Guarantee[], reference: string): void {
  const without = guarantees.filter((guarantee) => guarantee === 'none').length;
  if (without > 0)
    throw new NymphError('unsupported', `${without} files of ${reference} have no digest, so they cannot be checked`, {
      hint: 'Mount it without --strict.',
    });
}
