import type { Cache, StoredImage } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import { bytesBySource } from '../fetch/statistics.ts';
import { isOfFiles } from '../image/image.ts';
import type { AttachedImage } from '../mount/attach.ts';
import { reattach, reattachMounted } from '../mount/attach.ts';
import { checkBootstrap } from '../mount/bootstrap.ts';
import type { ActiveMount } from '../mount/mounts.ts';
import { fetchAll } from '../mount/pull.ts';
import { verifyImage } from '../mount/verify.ts';
import type { SnapshotsStatus } from '../snapshotter/summary.ts';
import type { Nearby } from '../sources/nearby.ts';
import type { StartedImage, StartTrace, StartTraces } from '../telemetry/starts.ts';
import { createActivity } from './activity.ts';
import type {
  ImageActivity,
  ImageInfo,
  Live,
  MountInfo,
  MountRequest,
  Prefetch,
  Progress,
  PruneRequest,
  PullRequest,
  PullResult,
  Status,
  TraceInfo,
  VerifyRequest,
  VerifyResult,
} from './api.ts';
import { createLive } from './live.ts';
import { createOpening, type OpeningParts } from './opening.ts';
import { createPrefetching, type Prefetching } from './prefetching.ts';
import { createReports, mountInfo, type ReportParts } from './reports.ts';
import { createStarts, type FindProgram, type StartParts } from './starts.ts';

/** What the control API does: the verbs of the command line, on the parts of a running daemon. */
export interface Service {
  mount(
    request: MountRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    container?: ContainerMount,
  ): Promise<MountInfo>;
  /** Sends for what a program needs that will run in a mounted image, in the background. @param find tells what it is */
  foresee(directory: string, find: FindProgram): void;
  umount(directory: string, force: boolean): Promise<void>;
  mounts(): Promise<MountInfo[]>;
  images(): Promise<ImageInfo[]>;
  image(name: string): Promise<ImageInfo>;
  /** What was read first of an image. @param name reference or digest */
  trace(name: string): Promise<TraceInfo>;
  /** What goes on with one image. @param name reference or digest */
  activity(name: string): Promise<ImageActivity>;
  /** What is served now. @param cells of the map of each image, 0 for none */
  live(cells: number): Live;
  pull(request: PullRequest, progress: (p: Progress) => void, signal: AbortSignal): Promise<PullResult>;
  prefetch: Prefetching;
  verify(request: VerifyRequest, progress: (p: Progress) => void, signal: AbortSignal): Promise<VerifyResult>;
  prune(request: PruneRequest): ReturnType<Cache['prune']>;
  /** @param name reference or digest of an image that is here */
  pin(name: string, pinned: boolean): Promise<ImageInfo>;
  status(): Promise<Status>;
  /** Takes up the mounts of an earlier daemon; what it returns mounts again what is gone, once FUSE is served. */
  restore(): Promise<() => Promise<void>>;
}

/** A mount for the roots of containers: device nodes work in it. */
export interface ContainerMount {
  /** Who may have manifest and bootstrap at hand. */
  nearby?: Nearby;
}

export interface Parts extends OpeningParts, StartParts, ReportParts {
  /** What a mount prefetches when it does not say. */
  prefetch: Prefetch;
  /** Of pulls and mounts, for who watches starts. */
  traces: StartTraces;
  /** What containerd has here. */
  snapshots: () => Promise<SnapshotsStatus | undefined>;
}

export function createService(parts: Parts): Service {
  const { cache, blobs, mounts, opener, context, traces } = parts;
  const { log, statistics } = context;
  const open = createOpening(parts);
  const starts = createStarts(parts);
  const reports = createReports(parts);
  const activity = createActivity({
    ...{ cache, mounts, context, find: reports.find, info: reports.image, snapshots: parts.snapshots },
    canonical: opener.canonical,
  });
  const live = createLive({ counters: reports.counters, mounts: mounts.list, statistics: statistics.blobs });

  async function mount(
    request: MountRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    container?: ContainerMount,
  ): Promise<MountInfo> {
    return traced('mount', request.reference, progress, (told, trace) =>
      mountTraced(request, told, signal, container, trace),
    );
  }

  /** Work that is a span, and each of its stages another. */
  async function traced<T>(
    kind: 'pull' | 'mount',
    reference: string,
    progress: (p: Progress) => void,
    work: (progress: (p: Progress) => void, trace: StartTrace) => Promise<T>,
  ): Promise<T> {
    const trace = traces.begin(kind, opener.canonical(reference));
    try {
      return await work((now) => {
        trace.stage(now.stage);
        progress(now);
      }, trace);
    } catch (error) {
      trace.failed(error);
      throw error;
    }
  }

  async function mountTraced(
    request: MountRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    container: ContainerMount | undefined,
    startTrace: StartTrace,
  ): Promise<MountInfo> {
    const { reference, directory } = request;
    const begun = performance.now();
    const { platform, strict, subset } = request.options ?? {};
    const nearby = container?.nearby;
    const { image, choice, trace } = await open(reference, platform, progress, signal, { nearby, strict, subset });
    const there = await mounts.find(directory);
    const isFiles = isOfFiles(image.stored);
    const via = request.options?.via ?? (isFiles ? 'fuse' : 'auto');
    const isSame = there?.stored.digest === image.stored.digest && there.stored.strict === strict;
    if (isSame && (via === 'auto' || via === there.stored.kind)) {
      // As asked already: a caller that repeats itself, or that a crash has cut off, gets what it wanted.
      await image.release();
      startTrace.done({ ...startedOf(image), kind: there.stored.kind, directory }, []);
      return { ...mountInfo(there, 'ok'), ...(choice ? { choice } : {}) };
    }
    if (isFiles && via === 'erofs') {
      await image.release();
      throw new NymphError('unsupported', `${reference} holds files as they stand, which EROFS cannot mount`, {
        hint: 'Leave out --via: it is mounted by FUSE.',
      });
    }
    const prefetch = request.options?.prefetch ?? parts.prefetch;
    // What a start needs is on its way while the mount is being made.
    starts.begin(image, prefetch, { strict: strict === true, elsewhere: trace });
    let mounted: ActiveMount;
    try {
      progress({ stage: 'mounting' });
      mounted = await mounts.add(image, directory, { via, strict, allowDevices: container !== undefined });
    } catch (error) {
      await image.release();
      throw error;
    }
    startTrace.done({ ...startedOf(image), kind: mounted.stored.kind, directory }, inodesOf(image));
    log('info', 'mounted', {
      directory: mounted.stored.directory,
      image: reference,
      digest: image.stored.digest,
      ms: Math.round(performance.now() - begun),
    });
    return { ...mountInfo(mounted, 'ok'), ...(choice ? { choice } : {}) };
  }

  function pull(request: PullRequest, progress: (p: Progress) => void, signal: AbortSignal): Promise<PullResult> {
    return traced('pull', request.reference, progress, (told, trace) => pullTraced(request, told, signal, trace));
  }

  async function pullTraced(
    request: PullRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
    trace: StartTrace,
  ): Promise<PullResult> {
    const { reference } = request;
    const begun = performance.now();
    const before = fetchedBytes();
    const { image: attached, choice } = await open(reference, request.platform, progress, signal, {
      subset: request.subset,
      whole: true,
    });
    try {
      await fetchAll(attached, progress, signal);
      await Promise.all(attached.blobs.map((blob) => blobs.checked(blob, signal)));
      const milliseconds = Math.round(performance.now() - begun);
      trace.done(startedOf(attached), []);
      log('info', 'pulled', { image: reference, ms: milliseconds });
      const fetched = fetchedBytes() - before;
      return { image: await reports.image(attached.stored), ...(choice ? { choice } : {}), fetched, milliseconds };
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

  async function restore(): Promise<() => Promise<void>> {
    return mounts.restore(async (stored, living) => {
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
    foresee(directory, find) {
      const mount = mounts.list().find(({ stored }) => stored.directory === directory);
      if (mount !== undefined && parts.prefetch !== 'none') starts.foresee(mount.image, find);
    },
    umount: (directory, force) => mounts.remove(directory, force),
    mounts: reports.mounts,
    images: reports.images,
    image: async (name) => reports.image(reports.stored(name)),
    trace: async (name) => starts.trace(reports.stored(name)),
    activity,
    live,
    pull,
    prefetch: createPrefetching({ cache, blobs, mounts, opener, context, open }),
    verify,
    prune: ({ target, force }) => cache.prune(target ?? cache.usage().quota ?? Number.MAX_SAFE_INTEGER, force),
    async pin(name, pinned) {
      const stored = reports.stored(name);
      await cache.pin(stored.digest, pinned);
      return reports.image(stored);
    },
    status: async () => ({ ...(await reports.status()), snapshots: await parts.snapshots() }),
    restore,
  };
}

function startedOf({ stored, blobs }: AttachedImage): StartedImage {
  return { ...stored, size: blobs.reduce((sum, { cached }) => sum + cached.size, 0) };
}

function inodesOf({ blobs }: AttachedImage): number[] {
  return blobs.map(({ cached }) => cached.ino);
}
