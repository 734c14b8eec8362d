import type { Cache, StoredImage } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { LATENCY_BOUNDS } from '../fetch/latencies.ts';
import { bytesBySource, faultQuantiles, type SourceStatistics } from '../fetch/statistics.ts';
import type { Driver } from '../fuse/driver.ts';
import { type Guarantee, guaranteeOf, type OciDigest } from '../image/image.ts';
import { parseTrace } from '../image/trace.ts';
import { type AttachedImage, attach, reattach, reattachMounted } from '../mount/attach.ts';
import { checkBootstrap } from '../mount/bootstrap.ts';
import { fetchHeaders, fetchModel } from '../mount/fill.ts';
import { readMounts } from '../mount/mountinfo.ts';
import type { ActiveMount, Mounts } from '../mount/mounts.ts';
import type { ImageOpener, OpenedImage, OpenSource } from '../mount/open.ts';
import { fetchAll, fetchListed, fetchRanges } from '../mount/pull.ts';
import type { ServedBlobs } from '../mount/served.ts';
import type { Startup } from '../mount/startup.ts';
import { TRACE_FILES, type Tracing } from '../mount/tracing.ts';
import { verifyImage } from '../mount/verify.ts';
import type { Nearby } from '../sources/nearby.ts';
import type {
  Choice,
  Health,
  ImageInfo,
  MountInfo,
  MountRequest,
  Progress,
  PruneRequest,
  PullRequest,
  PullResult,
  SourceStatus,
  Status,
  TraceInfo,
  VerifyRequest,
  VerifyResult,
} from './api.ts';

/** What the control API does: the verbs of the command line, on the parts of a running daemon. */
export interface Service {
  mount(
    request: MountRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    container?: ContainerMount,
  ): Promise<MountInfo>;
  umount(directory: string, force: boolean): Promise<void>;
  mounts(): Promise<MountInfo[]>;
  images(): Promise<ImageInfo[]>;
  image(name: string): Promise<ImageInfo>;
  /** What was read first of an image. @param name reference or digest */
  trace(name: string): Promise<TraceInfo>;
  pull(request: PullRequest, progress: (p: Progress) => void, signal: AbortSignal): Promise<PullResult>;
  verify(request: VerifyRequest, progress: (p: Progress) => void, signal: AbortSignal): Promise<VerifyResult>;
  prune(request: PruneRequest): ReturnType<Cache['prune']>;
  status(): Promise<Status>;
  /** Takes up the mounts of an earlier daemon; what it returns mounts again what is gone, once FUSE is served. */
  restore(alive: boolean): Promise<() => Promise<void>>;
}

/** A mount for the roots of containers: device nodes work in it. */
export interface ContainerMount {
  /** Who may have manifest and bootstrap at hand. */
  nearby?: Nearby;
}

export interface Parts {
  cache: Cache;
  driver: Driver;
  blobs: ServedBlobs;
  mounts: Mounts;
  opener: ImageOpener;
  startup: Startup;
  tracing: Tracing;
  context: FetchContext;
  /** What a mount prefetches when it does not say. */
  prefetch: 'none' | 'image' | 'all';
  health: () => Health;
}

export function createService(parts: Parts): Service {
  const { cache, driver, blobs, mounts, opener, startup, tracing, context } = parts;
  const { log, statistics } = context;

  async function open(
    reference: string,
    platform: string | undefined,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    { nearby, strict = false }: { nearby?: Nearby; strict?: boolean } = {},
  ): Promise<{ image: AttachedImage; choice?: Choice; trace?: OpenedImage['trace'] }> {
    // A manifest that is known by its digest is never another one: nobody needs to be asked.
    const pinned = opener.pinned(reference);
    const here =
      pinned && (await openCached(pinned, opener.canonical(reference), () => opener.sources(reference), strict));
    if (here !== undefined) return { image: here };
    const found = await opener.resolve(reference, platform, progress, signal, nearby);
    const cached = await openCached(found.digest, found.reference, () => found.source, strict);
    const { choice } = found;
    if (cached !== undefined) return { image: cached, choice };
    const opened = await found.open(progress, signal);
    if (strict) requireDigests(opened.image.blobs.map(guaranteeOf), opened.reference);
    for (const why of opened.warnings ?? []) log('warn', 'an image is odd', { image: opened.reference, why });
    const image = await attach(opened, cache, blobs, strict);
    if (opened.startup !== undefined) startup.watch(image, opened.startup);
    return { image, choice, trace: opened.trace };
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

  async function mount(
    request: MountRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    container?: ContainerMount,
  ): Promise<MountInfo> {
    const { reference, directory } = request;
    const begun = performance.now();
    const { platform, strict } = request.options ?? {};
    const nearby = container?.nearby;
    const { image, choice, trace } = await open(reference, platform, progress, signal, { nearby, strict });
    const there = await mounts.find(directory);
    const isFiles = !image.stored.format.startsWith('rafs');
    const via = request.options?.via ?? (isFiles ? 'fuse' : 'auto');
    const isSame = there?.stored.digest === image.stored.digest && there.stored.strict === strict;
    if (isSame && (via === 'auto' || via === there.stored.kind)) {
      // As asked already: a caller that repeats itself, or that a crash has cut off, gets what it wanted.
      await image.release();
      return { ...mountInfo(there, 'ok'), ...(choice ? { choice } : {}) };
    }
    if (isFiles && via === 'erofs') {
      await image.release();
      throw new NymphError('unsupported', `${reference} holds files as they stand, which EROFS cannot mount`, {
        hint: 'Leave out --via: it is mounted by FUSE.',
      });
    }
    const prefetch = request.options?.prefetch ?? parts.prefetch;
    if (prefetch !== 'none') startup.expect(image);
    // What a start needs is on its way while the mount is being made.
    void background(image, prefetch, strict === true);
    if (!isFiles) {
      tracing.begin(image);
      void repeatStart(image, prefetch, trace);
    }
    let mounted: ActiveMount;
    try {
      progress({ stage: 'mounting' });
      mounted = await mounts.add(image, directory, { via, strict, allowDevices: container !== undefined });
    } catch (error) {
      await image.release();
      throw error;
    }
    log('info', 'mounted', {
      directory: mounted.stored.directory,
      image: reference,
      digest: image.stored.digest,
      ms: Math.round(performance.now() - begun),
    });
    return { ...mountInfo(mounted, 'ok'), ...(choice ? { choice } : {}) };
  }

  async function background(image: AttachedImage, prefetch: 'none' | 'image' | 'all', strict: boolean): Promise<void> {
    const { signal } = image.ending;
    try {
      if (!image.stored.format.startsWith('rafs')) {
        if (prefetch === 'image') await fetchHeaders(image, blobs, strict, signal);
        else if (prefetch === 'all') await fetchModel(image, blobs, strict, log, signal);
      } else if (prefetch === 'image') await fetchListed(image, signal);
      else if (prefetch === 'all') await fetchAll(image, () => {}, signal);
    } catch (error) {
      if (!signal.aborted)
        log('warn', 'prefetch ended early', { image: image.stored.reference, error: (error as Error).message });
    }
  }

  /** Sends for what starts of the image have read before, here or elsewhere. */
  async function repeatStart(
    image: AttachedImage,
    prefetch: 'none' | 'image' | 'all',
    elsewhere: OpenedImage['trace'] | undefined,
  ): Promise<void> {
    const { signal } = image.ending;
    const { reference, digest } = image.stored;
    try {
      const text = (await cache.trace(digest)) ?? (await elsewhere);
      if (text === undefined) return;
      const trace = parseTrace(
        text,
        image.blobs.map(({ cached }) => cached.size),
      );
      tracing.given(image, trace);
      if (prefetch === 'image') await fetchRanges(image, trace, signal);
    } catch (error) {
      if (!signal.aborted)
        log('warn', 'what a start needs is not fetched ahead', { image: reference, error: (error as Error).message });
    }
  }

  async function trace(name: string): Promise<TraceInfo> {
    const stored = storedImage(name);
    const { digest, reference } = stored;
    const active = mounts.list().find((mount) => mount.stored.digest === digest);
    const text = (active && tracing.of(active.image)) || ((await cache.trace(digest)) ?? '');
    const ranges = parseTrace(
      text,
      stored.blobs.map(({ size }) => size),
    );
    const files = await context.pool.run(TRACE_FILES, { bootstrap: cache.bootstrapPath(digest), trace: ranges });
    return { reference, digest, trace: text, bytes: ranges.reduce((sum, { length }) => sum + length, 0), files };
  }

  async function mountList(): Promise<MountInfo[]> {
    const entries = await readMounts();
    return mounts
      .list()
      .map((mount) => mountInfo(mount, mounts.isThere(mount, entries) ? 'ok' : 'unmounted by somebody else'));
  }

  async function imageInfo(stored: StoredImage): Promise<ImageInfo> {
    const sizes: ImageInfo['blobs'] = [];
    for (const { key, id, size, storedSize, traits = [], guarantee = 'chunk', path } of stored.blobs) {
      const here = (await cache.peek(key)) ?? { size, ready: 0 };
      sizes.push({ id, storedSize, traits, guarantee, ...(path !== undefined && { path }), ...here });
    }
    const sum = (pick: (blob: (typeof sizes)[number]) => number) =>
      sizes.reduce((total, blob) => total + pick(blob), 0);
    return {
      reference: stored.reference,
      digest: stored.digest,
      format: stored.format,
      inodes: stored.inodes,
      size: sum((blob) => blob.size),
      ready: sum((blob) => blob.ready),
      storedSize: sum((blob) => blob.storedSize),
      mounts: mounts
        .list()
        .filter((m) => m.stored.digest === stored.digest)
        .map((m) => m.stored.directory),
      blobs: sizes,
      verifiable: stored.verifiable,
    };
  }

  const images = () => Promise.all(cache.images().map(imageInfo));

  function storedImage(name: string): StoredImage {
    const reference = name.startsWith('sha256:') ? undefined : opener.canonical(name);
    const stored = cache.images().find((candidate) => candidate.digest === name || candidate.reference === reference);
    if (stored === undefined)
      throw new NymphError('not-found', `no image ${name} is here`, { hint: '`nymph ls` lists what is.' });
    return stored;
  }

  async function pull(request: PullRequest, progress: (p: Progress) => void, signal: AbortSignal): Promise<PullResult> {
    const { reference } = request;
    const begun = performance.now();
    const before = fetchedBytes();
    const { image: attached, choice } = await open(reference, request.platform, progress, signal);
    try {
      await fetchAll(attached, progress, signal);
      await Promise.all(attached.blobs.map((blob) => blobs.checked(blob, signal)));
      const milliseconds = Math.round(performance.now() - begun);
      log('info', 'pulled', { image: reference, ms: milliseconds });
      const fetched = fetchedBytes() - before;
      return { image: await imageInfo(attached.stored), ...(choice ? { choice } : {}), fetched, milliseconds };
    } finally {
      // It syncs what was fetched, which nobody needs to wait for.
      attached.release().catch((error) => log('error', 'cannot give blobs back', { image: reference, error }));
    }
  }

  async function verify(
    request: VerifyRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
  ): Promise<VerifyResult> {
    const { target } = request;
    const mounted = target.startsWith('/') ? await mounts.find(target) : undefined;
    // Held for itself: the mount may go while its chunks are checked.
    const attached =
      mounted === undefined
        ? (await open(target, request.platform, progress, signal)).image
        : await reattachMounted(mounted.image.stored, cache, blobs, opener.sources(mounted.stored.reference));
    try {
      return await verifyImage(attached, blobs, request.cachedOnly === true, context, progress, signal);
    } finally {
      await attached.release();
    }
  }

  function fetchedBytes(): number {
    return Object.values(bytesBySource(statistics)).reduce((sum, bytes) => sum + bytes, 0);
  }

  async function status(): Promise<Status> {
    const { requests, retries, badChunks, failed } = statistics;
    return {
      health: parts.health(),
      cache: cache.usage(),
      fuse: { driver: driver.name, ...driver.statistics() },
      fetch: {
        bytes: bytesBySource(statistics),
        sources: Object.fromEntries(Array.from(statistics.sources, ([name, source]) => [name, sourceStatus(source)])),
        requests,
        retries,
        badChunks,
        failed,
        faultMs: faultQuantiles(statistics),
      },
      mounts: await mountList(),
      images: await images(),
    };
  }

  async function restore(alive: boolean): Promise<() => Promise<void>> {
    return mounts.restore(alive, async (stored, living) => {
      const known = cache.image(stored.digest);
      if (known === undefined) throw new NymphError('cache', `image ${stored.digest} is gone from the cache`);
      const source = opener.sources(stored.reference);
      if (!living) return reattach(known, cache, blobs, source, context.pool, stored.strict);
      const image = await reattachMounted(known, cache, blobs, source, stored.strict);
      // Its readers wait: they are served first.
      void inspect(known, stored.directory);
      return image;
    });
  }

  async function inspect(known: StoredImage, directory: string): Promise<void> {
    try {
      await checkBootstrap(known, cache, context.pool);
    } catch (error) {
      if (error instanceof NymphError && error.code === 'cancelled') return;
      log('error', 'the bootstrap of a mount is not as it was', { directory, error: (error as Error).message });
    }
  }

  return {
    mount,
    umount: (directory, force) => mounts.remove(directory, force),
    mounts: mountList,
    images,
    image: async (name) => imageInfo(storedImage(name)),
    trace,
    pull,
    verify,
    prune: (request) => cache.prune(request.target ?? cache.usage().quota ?? Number.MAX_SAFE_INTEGER),
    status,
    restore,
  };
}

function sourceStatus({
  bytes,
  requests,
  errors,
  latency,
  hedgesWon,
  hedgesLost,
  from,
}: SourceStatistics): SourceStatus {
  const { counts, sum } = latency;
  const [p50, p95] = [latency.quantile(0.5), latency.quantile(0.95)];
  const latencyMs = { p50, p95, bounds: LATENCY_BOUNDS, counts, sum };
  return { bytes, requests, errors, latencyMs, hedges: { won: hedgesWon, lost: hedgesLost }, ...(from && { from }) };
}

/** @throws NymphError `unsupported` if there are files that nothing can be compared with */
function requireDigests(guarantees: readonly Guarantee[], reference: string): void {
  const without = guarantees.filter((guarantee) => guarantee === 'none').length;
  if (without > 0)
    throw new NymphError('unsupported', `${without} files of ${reference} have no digest, so they cannot be checked`, {
      hint: 'Mount it without --strict.',
    });
}

function mountInfo({ stored }: ActiveMount, state: string): MountInfo {
  const { directory, reference, digest, kind, reason, since } = stored;
  return { directory, reference, digest, kind, reason, since, state };
}
