/**
 * The control API: HTTP on a unix socket. Requests and answers are JSON. Long work (mount, pull, verify, prune) answers
 * with a stream of JSON lines: any number of `progress`, then one `done` or `error`. A client that hangs up cancels it.
 *
 *   GET    /v1/health                              Health: it answers
 *   GET    /v1/ready                               Ready: it serves all that it is meant to; status 503 if not
 *   GET    /metrics                                text for Prometheus
 *   GET    /                                       a page that draws `live`
 *   GET    /v1/status                              Status
 *   GET    /v1/live[?cells=N]                      Live: what is served now; with a map of N cells for each image
 *   GET    /v1/activity/<reference or digest>      ImageActivity (URL-encoded)
 *   GET    /v1/mounts                              MountInfo[]
 *   GET    /v1/images                              ImageInfo[]
 *   GET    /v1/images/<reference or digest>        ImageInfo (URL-encoded)
 *   GET    /v1/traces/<reference or digest>        TraceInfo (URL-encoded)
 *   POST   /v1/mounts    MountRequest              stream of Progress, done: MountInfo
 *   DELETE /v1/mounts?directory=…[&force=true]     {}
 *   POST   /v1/pull      PullRequest               stream of Progress, done: PullResult
 *   POST   /v1/preheat   PreheatRequest           stream of Progress, done: PreheatResult
 *   POST   /v1/prefetch  PrefetchRequest           stream of Progress, done: PrefetchResult
 *   POST   /v1/verify    VerifyRequest             stream of Progress, done: VerifyResult
 *   PUT    /v1/pins/<reference or digest>          ImageInfo: the image is not evicted any more
 *   DELETE /v1/pins/<reference or digest>          ImageInfo
 *   POST   /v1/prune     PruneRequest              stream, done: PruneResult (cache/cache.ts)
 *   POST   /v1/upgrade   UpgradeRequest            stream, done: {}: another program has got ready, and takes over
 *   POST   /v1/stop                                {}: unmounts nothing, stops the daemon and its supervisor
 *
 * Errors outside a stream: status 4xx/5xx with an ApiError. For others all of this is written down in `docs/openapi.yaml`.
 */
import type { CacheUsage, MountKind, Standing } from '../cache/cache.ts';
import type { ErrorCode } from '../errors.ts';
import type { Guarantee } from '../image/image.ts';
import type { SnapshotsStatus } from '../snapshotter/summary.ts';
import type { PreheatScope } from '../sources/dragonfly/manager.ts';
import type { NodeLimits } from './node-limits.ts';
import type { OpenFilesLimit } from './open-files.ts';

export interface ApiError {
  error: { code: ErrorCode; message: string; hint?: string };
}

export type StreamLine<Result> =
  | { type: 'progress'; progress: Progress }
  | { type: 'done'; result: Result }
  | ({ type: 'error' } & ApiError);

export interface Progress {
  /** What is being done, for a person: `resolving`, `reading bootstrap`, `unpacking`, `fetching`, `verifying`. */
  stage: string;
  /** Bytes done and in all, where they are known. */
  done?: number;
  total?: number;
}

export interface Health {
  version: string;
  pid: number;
  supervisor: number | undefined;
  /** True if the supervisor was started by a daemon, in the place of one that died. */
  standIn?: boolean;
  /** Seconds. */
  uptime: number;
  root: string;
  /** The directory of its program: what holds `dist/`. */
  installed: string;
}

/** What shall follow the daemon that runs. */
export interface UpgradeRequest {
  /** Program and arguments. */
  command: string[];
  /** Of what it keeps on the disk (`daemon/formats.ts`). */
  formats: Record<string, number>;
  /** ms that it may take to get ready, and again to serve. */
  limit: number;
}

export interface Ready {
  ready: boolean;
  /** Why not. */
  problems: string[];
}

export type Prefetch = 'none' | 'image' | 'all';

export interface MountOptions {
  /** `os/architecture[/variant]`; the machine's own by default. */
  platform?: string;
  /** Fetch in the background after mounting: nothing, what the image's prefetch table lists, or all of it. */
  prefetch?: Prefetch;
  /** By the kernel's EROFS driver, or as a tree in our FUSE file system; `auto`: by EROFS where the kernel can. */
  via?: 'auto' | 'erofs' | 'fuse';
  /** Files without digests of chunks are read only after they were checked as a whole. */
  strict?: boolean;
  /** Of a model: kinds and patterns of files (`daemon/subset.ts`); all by default. */
  subset?: string[];
}

export interface MountRequest {
  reference: string;
  directory: string;
  options?: MountOptions;
}

export interface PullRequest {
  reference: string;
  platform?: string;
  /** As in MountOptions. */
  subset?: string[];
}

/** How a reference led to a Nydus image that it does not name itself. */
export interface Choice {
  by: 'index' | 'referrer';
  /** Digest of the ordinary manifest for the same platform, where there is one. */
  ordinary?: string;
}

export interface PullResult {
  image: ImageInfo;
  choice?: Choice;
  /** Stored bytes that came from the source in this pull, and ms that it took. */
  fetched: number;
  milliseconds: number;
}

/** Fetches parts of an image ahead: `trace`, unless it is of another image, and then `files`. One of them is there. */
export interface PrefetchRequest {
  /** A reference, a digest, or the directory of a mount. */
  target: string;
  platform?: string;
  /** Of the image that the trace is of; without it, it is taken to be of this one. */
  digest?: string;
  /** As `image/trace.ts` has it. */
  trace?: string;
  /** Paths in the image, the most urgent first. */
  files?: string[];
}

export interface PrefetchResult {
  reference: string;
  digest: string;
  /** Uncompressed bytes that were named, and stored bytes that came meanwhile for the image. */
  bytes: number;
  fetched: number;
  /** Of `files`, how many are here now, and which the image does not have: the first of them. */
  files?: number;
  missing?: string[];
  milliseconds: number;
}

export const PREHEAT_WAYS = ['manager', 'harbor', 'dfdaemon'] as const;
export type PreheatWay = (typeof PREHEAT_WAYS)[number];

export interface PreheatRequest {
  reference: string;
  platform?: string;
  /** Of a job of the manager: who shall have the image. */
  scope?: PreheatScope;
  /** Who does it; what is configured by default: the manager, else Harbor, else this node's dfdaemon. */
  via?: PreheatWay;
}

export interface PreheatResult {
  reference: string;
  /** Of the image manifest. */
  digest: string;
  /** A job of the manager, a policy of Harbor, or streams through this node's dfdaemon. */
  by: PreheatWay;
  blobs: number;
  /** Stored bytes. */
  bytes: number;
  milliseconds: number;
}

export interface VerifyRequest {
  /** A reference, or the directory of a mount. */
  target: string;
  platform?: string;
  /** Check only what is in the cache; fetch nothing. */
  cachedOnly?: boolean;
}

export interface VerifyResult {
  /** A file whose chunks have no digests counts as one. */
  chunks: number;
  verified: number;
  /** Not in the cache (with `cachedOnly`). */
  absent: number;
  /** Files that nothing can be compared with; absent where there is none. */
  unverifiable?: number;
  /** Wrong in the cache and fetched again, right now. */
  repaired: number;
  /** Wrong, and no source had right bytes: `blob id:offset`. */
  bad: string[];
  bytes: number;
  milliseconds: number;
}

export interface PruneRequest {
  /** Bytes that may stay; 0 removes all that is not in use. Default: the quota. */
  target?: number;
  /** Also what is pinned, and images that containerd has though no container runs. */
  force?: boolean;
}

export interface MountInfo {
  directory: string;
  reference: string;
  /** Of the image manifest; with a subset, of both. */
  digest: string;
  subset?: readonly string[];
  kind: 'erofs' | 'fuse';
  /** Why it is not `erofs`, where nobody asked for that. */
  reason?: string;
  since: number;
  /** `ok`, or why reads fail. */
  state: string;
  /** In the answer to who has mounted it. */
  choice?: Choice;
}

export interface ImageInfo {
  reference: string;
  /** As in MountInfo. */
  digest: string;
  subset?: readonly string[];
  format: string;
  inodes: number;
  /** Uncompressed bytes of chunks in all, and of those that are here. */
  size: number;
  ready: number;
  /** Stored (compressed) bytes in the registry. */
  storedSize: number;
  mounts: string[];
  /** It is not evicted. */
  pinned: boolean;
  /** `traits`: `zran` (chunks are in a gzip layer), `encrypted`, `batch` (small chunks are stored together). */
  blobs: {
    id: string;
    size: number;
    ready: number;
    storedSize: number;
    traits: string[];
    guarantee: Guarantee;
    /** What the check of the whole has found, where chunks have no digests. */
    standing?: Standing;
    /** A file that it holds, of files as they stand. */
    path?: string;
  }[];
  verifiable: boolean;
}

/** Milliseconds: of what took at most each bound and not the one before, how much there was; the last: longer. */
export interface LatencyHistogram {
  bounds: readonly number[];
  counts: readonly number[];
  sum: number;
}

/** What one source did since the daemon's start. */
export interface SourceStatus {
  /** Stored bytes. */
  bytes: number;
  requests: number;
  errors: number;
  /** How its requests ended. */
  ended: { ok: number; error: number; cancelled: number };
  /** `errors` by their code, as in {@link ApiError}; `unknown` for what has none. */
  errorTypes: Partial<Record<ErrorCode | 'unknown', number>>;
  /** ms from a request to its first byte: of the last 64, and how many took at most so long (the last: longer), of all. */
  latencyMs: LatencyHistogram & { p50?: number; p95?: number };
  /** Of requests that were sent because another source was late: frames that they brought first, and others. */
  hedges: { won: number; lost: number };
  /** Of Dragonfly: `bytes` by who had them: the dfdaemon of this node, another peer, a seed, or the origin (the registry); its proxy does not say. */
  from?: { local: number; peer: number; seed: number; origin: number; unknown: number };
}

export interface TraceInfo {
  reference: string;
  digest: string;
  /** As `image/trace.ts` has it; empty without one. */
  trace: string;
  /** Uncompressed bytes that it names. */
  bytes: number;
  /** Paths of files that begin there, in the order of their first read. */
  files: string[];
}

/** What the daemon may use. */
export interface DaemonLimits extends NodeLimits {
  openFiles: OpenFilesLimit;
}

export interface Status {
  health: Health;
  ready: Ready;
  limits: DaemonLimits;
  cache: CacheUsage;
  fuse: {
    driver: string;
    requests: Record<string, number>;
    hits: number;
    hitBytes: number;
    faults: number;
    waiting: number;
  };
  fetch: {
    /** Stored bytes that came from sources, by source name. */
    bytes: Record<string, number>;
    /** By source name. */
    sources: Record<string, SourceStatus>;
    requests: number;
    retries: number;
    /** Chunks whose digest was wrong on arrival. */
    badChunks: number;
    /** Faults that ended in an error. */
    failed: number;
    /** Milliseconds: median, 99th percentile, maximum of the last 1,024 faults. */
    faultMs: { p50: number; p99: number; max: number };
    /** Of all faults: how many took at most so long (the last: longer). */
    faultLatencyMs: LatencyHistogram;
  };
  mounts: MountInfo[];
  images: ImageInfo[];
  /** What containerd has here. Absent if its socket is not served. */
  snapshots?: SnapshotsStatus;
}

/** What a view that is drawn again and again needs: counters since the start, and the images that are mounted. */
export interface Live extends Pick<Status, 'health' | 'cache' | 'fuse' | 'fetch'> {
  /** Unix time, ms. */
  time: number;
  images: LiveImage[];
}

export interface LiveImage extends Counts {
  reference: string;
  digest: string;
  /** How it is mounted, and why not by EROFS where nobody asked for that. */
  kind: MountKind;
  reason?: string;
  mounts: string[];
  /** Uncompressed bytes of chunks in all, and of those that are here. */
  size: number;
  ready: number;
  /** The largest ones. */
  blobs: LiveBlob[];
}

export interface LiveBlob {
  id: string;
  path?: string;
  size: number;
  ready: number;
  /** With `cells`: base64 of a byte for each part of the blob, how much of it is here, of 255. */
  cells?: string;
}

/** What was read of an image since the daemon's start, by all that share its blobs. */
export interface Counts {
  /** Reads that waited and got their bytes, and those that got an error. */
  faults: number;
  failed: number;
  /** Stored bytes by source name. */
  bytes: Record<string, number>;
}

export interface ImageActivity extends Counts {
  reference: string;
  /** In a sentence. */
  laziness: { lazy: boolean; why: string };
  /** Absent if nothing of it is in the cache: an ordinary image of containerd. */
  image?: ImageInfo;
  /** The slowest reads that waited, slowest first. */
  slowest: SlowRead[];
}

export interface SlowRead {
  /** Id of the blob, and the place in it, bytes. */
  blob: string;
  offset: number;
  /** The file whose bytes are there, where that can be told. */
  path?: string;
  milliseconds: number;
  /** Unix time of its end, ms. */
  at: number;
}
