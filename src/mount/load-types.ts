import type { ObjectRange } from '../formats/rafs/chunk-info.ts';
import type { BootstrapDescription } from '../formats/rafs/describe.ts';
import type { Image, OciDigest } from '../image/image.ts';

/** Where the bootstrap is, as it came from the source. */
export type LoadInput =
  /** The bootstrap layer of an image: a tar, maybe compressed. */
  | { kind: 'layer'; bytes: Uint8Array }
  /** The bootstrap itself. */
  | { kind: 'bootstrap'; bytes: Uint8Array }
  /** A blob that has its bootstrap inside: the object's end, and its size. */
  | { kind: 'tail'; bytes: Uint8Array; blobId: string; objectSize: number };

export interface LoadRequest {
  input: LoadInput;
  /** Bytes of objects, by id, as far as they are known. */
  sizes: ReadonlyMap<string, number>;
  /** Ranges that an earlier run asked for, by {@link rangeKey}. */
  ranges: Map<string, Uint8Array>;
}

/** The image, or what has to be read before it can be told. */
export type LoadOutcome = { type: 'done'; loaded: LoadedImage } | { type: 'need'; ranges: ObjectRange[] };

export interface LoadedImage {
  image: Image;
  /** What the kernel mounts: an EROFS image, the bootstrap itself or what it was translated to. */
  bootstrap: Uint8Array<ArrayBuffer>;
  bootstrapDigest: OciDigest;
  description: BootstrapDescription;
}

export const rangeKey = (range: ObjectRange) => `${range.id}:${range.offset}+${range.length}`;
