import type { OciDigest } from '../image/image.ts';

/**
 * A network of peers that brings whole objects, in pieces and in any order: what is wanted of an object soon comes from its
 * source, while a stream from the swarm fills in the rest.
 */
export interface Swarm {
  /** For logs and metrics. */
  readonly name: string;
  /**
   * Whether it is worth being asked: false while it is not there, or rests after failures. It costs nothing; what has
   * changed since is found out in the background.
   */
  available(): boolean;
  /** Whether others have the object: `undefined` if that cannot be told soon. Never rejects. */
  look(object: SwarmObject): Promise<boolean | undefined>;
  /**
   * Sends for a whole object. Resolves when its size is known.
   * @param use `drop`: its bytes are of no use here, and may be left out
   * @throws NymphError `retryable` if the same may succeed in a while; otherwise the swarm is of no use for this object
   */
  open(object: SwarmObject, signal: AbortSignal, use?: 'keep' | 'drop'): Promise<SwarmStream>;
  close(): void;
}

/** An object as a swarm must know it. */
export interface SwarmObject {
  readonly digest: OciDigest;
  /** Where it is for everybody: see `Source.location`. */
  location(signal: AbortSignal, refusals: number): Promise<ObjectLocation | undefined>;
}

/** Where an object is, and what it takes to get it from there. Holds secrets. */
export interface ObjectLocation {
  readonly url: URL;
  /** Names in lower case. */
  readonly headers: Record<string, string>;
  /** Certificates (PEM) that are trusted for the place besides the usual ones. */
  readonly certificates: readonly string[];
}

export interface SwarmStream {
  /** Of the whole object, bytes. */
  readonly size: number;
  /** Each piece once, as it comes; at the end all bytes were given, or it throws. The bytes are the caller's. */
  readonly pieces: AsyncIterable<SwarmPiece>;
  /** Where pieces without bytes of their own stand. */
  readonly file?: SwarmFile;
}

/** A file of the swarm's own that holds the object, as far as its pieces have come: each at its offset. */
export interface SwarmFile {
  /** For reading. */
  readonly fd: number;
  /** When nobody reads from it any more; once. */
  close(): Promise<void>;
}

/** Who had a piece: this machine's part of the swarm, another peer, a seed, the object's origin; or nobody says. */
export type PieceOrigin = 'local' | 'peer' | 'seed' | 'origin' | 'unknown';

export interface SwarmPiece {
  /** In the object. */
  readonly offset: number;
  readonly length: number;
  /** Absent where they stand in the stream's file. */
  readonly bytes?: Uint8Array;
  readonly from: PieceOrigin;
}
