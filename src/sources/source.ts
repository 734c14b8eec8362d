import type { OciDigest } from '../image/image.ts';
import type { ObjectLocation } from './swarm.ts';

/**
 * Where bytes come from. A *repository* answers for one reference (`host/name:tag`, a layout's tag, a folder): it
 * resolves the manifest, reads small objects whole, and opens a *source* for each large one.
 *
 * Promises that every implementation keeps (the suite in `test/source-suite.ts` checks them):
 *  - `read` yields exactly `length` bytes of the range that was asked for, or throws. A server that answers 200, another
 *    range, too few or too many bytes never shows through as wrong bytes.
 *  - A thrown NymphError says with `retryable` whether the same call may succeed later; `retryAfter` is honoured.
 *  - An aborted `signal` ends the call soon with code `cancelled`, and frees the connection.
 *  - Nothing is verified against a digest by `read`: chunks are verified by who fetches them. `get` verifies.
 */
export interface Source {
  /** For logs and metrics, without secrets: `registry.example:5000`, `layout`, `folder`. */
  readonly name: string;
  /** Size of the stored object in bytes, where it is known without asking. */
  readonly size?: number;
  /** Stored bytes that a request for a reader takes along beside them, where that is not left to the settings. */
  readonly amplify?: number;
  /**
   * Streams bytes `[offset, offset + length)` of the object. Chunks of the stream have any size; they may be reused by
   * nobody else (the caller owns them). Resolves once the first byte is about to come (headers were checked).
   */
  read(offset: number, length: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
  /** The bytes of a stream that `read` gave were wrong (a digest says so): prefer another place for a while, if there is one. */
  distrust?(stream: AsyncIterable<Uint8Array>): void;
  /**
   * Where another program gets the object, with our access to it: the place itself, no mirror of it. `undefined` if it
   * cannot be had from there by others. May ask the place for a login.
   * @param refusals how often what this gave was refused there since it was last of use: after the first time another
   *   login is needed, after the second this place has none
   */
  location?(signal: AbortSignal, refusals: number): Promise<ObjectLocation | undefined>;
}

/** An OCI descriptor, what of it we use. Sizes in bytes. */
export interface Descriptor {
  mediaType: string;
  digest: OciDigest;
  size: number;
  annotations?: Record<string, string>;
  artifactType?: string;
  platform?: { os?: string; architecture?: string; variant?: string; 'os.features'?: string[] };
}

/** A manifest as it was served, verified against its digest. */
export interface Manifest {
  descriptor: Descriptor;
  bytes: Uint8Array;
}

export interface Repository {
  /** The reference in full form, without secrets: `registry.example:5000/app:nydus`. */
  readonly reference: string;
  /** Kind of place, for `inspect` and logs. */
  readonly kind: 'registry' | 'layout' | 'folder' | 'nydusd' | 'hub';
  /** The manifest (or index) that the reference names. */
  resolve(signal: AbortSignal): Promise<Manifest>;
  /** A manifest by digest, verified (children of an index). */
  manifest(digest: OciDigest, signal: AbortSignal): Promise<Manifest>;
  /**
   * Manifests whose subject is the one with this digest (distribution-spec "Listing Referrers"). Nothing but the registry
   * vouches for the list: as with a tag. Absent where there is no such thing.
   */
  referrers?(digest: OciDigest, signal: AbortSignal): Promise<Descriptor[]>;
  /** A whole object of at most `limit` bytes, verified against its digest. */
  get(descriptor: Pick<Descriptor, 'digest' | 'size'>, limit: number, signal: AbortSignal): Promise<Uint8Array>;
  /**
   * Opens a large object for range reads. No request is made before the first `read`.
   * @param descriptor `location`: as the repository's own listing gave it, where its digest does not lead to it
   */
  open(descriptor: { digest: OciDigest; size?: number; location?: string }): Source;
  /** Ends idle connections. */
  close(): Promise<void>;
}
