import { createHash } from 'node:crypto';
import type { ImageFormat, OciDigest, StreamCodec, WholeDigest } from './image.ts';

/**
 * Files that stand in a registry or a hub as they are: what a ModelPack artifact, a plain OCI artifact and the listing of
 * a hub's repository come to, before they are an image. Types only; sizes and offsets in bytes.
 */
export interface FileList {
  readonly format: Exclude<ImageFormat, 'rafs-v5' | 'rafs-v6'>;
  readonly objects: readonly StoredObject[];
  readonly files: readonly FileNode[];
  /** What is odd, but does no harm: two layers for one path. */
  readonly warnings: readonly string[];
  /** The commit of a hub's repository. */
  readonly revision?: string;
}

/** What becomes one blob: the bytes of an object of the source, from its first to its last. */
export interface StoredObject {
  /** 64 hex characters: the name in the cache. The same bytes have the same name wherever they come from. */
  readonly id: string;
  /** By which the source knows it, unless it has a location. */
  readonly digest: OciDigest;
  readonly size: number;
  /** Where it is another: bytes in the source. */
  readonly storedSize?: number;
  readonly whole?: WholeDigest;
  /** As in Blob. */
  readonly origin: string;
  readonly location?: string;
  /** A tar whose headers were read before its digest could be compared: what they said (`formats/tar/index-digest.ts`). */
  readonly index?: string;
  /** All of it was read once: `size` and places are those of what it unpacks to. */
  readonly unpacked?: Unpacked;
}

/** What is known of a layer that was read from its first byte to its last, and found to have its digest. */
export interface Unpacked {
  readonly codec: StreamCodec;
  /** Bytes of what it unpacks to. */
  readonly size: number;
  /** SHA-256 of each {@link UNPACKED_CHUNK} of that, 32 bytes side by side. */
  readonly digests: Uint8Array;
}

export const UNPACKED_CHUNK = 1 << 20;

/** Files begin at multiples of this in their objects: what tars are made of. */
export const SECTOR = 512;

export interface FileNode {
  /** Relative, `/` between names, UTF-8. Not checked yet. */
  readonly path: string;
  /** What it is for, as a manifest says, in the words of ModelPack: `weight`, `weight.config`, `doc`, … */
  readonly kind?: string;
  /** Of its content, where a manifest has some. */
  readonly checksums?: FileChecksums;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, may be negative, and nanoseconds. */
  readonly mtime: number;
  readonly mtimeNs: number;
  readonly content:
    | { readonly kind: 'directory' }
    | { readonly kind: 'symlink'; readonly target: string }
    /** `object`: index into the list's objects, -1 for an empty file; `offset`: where it begins there, whole {@link SECTOR}s. */
    | { readonly kind: 'file'; readonly size: number; readonly object: number; readonly offset: number };
}

/** CRC-32C of each piece of a file, all of one size but the last. They find accidents, and prove nothing. */
export interface FileChecksums {
  /** Bytes. */
  readonly pieceSize: number;
  readonly crcs: readonly number[];
}

/** A range of a blob, bytes, and its CRC-32C. */
export interface PieceChecksum {
  readonly offset: number;
  readonly size: number;
  readonly crc: number;
}

/** Where a file is in the blob that holds it, bytes. */
export interface FileExtent {
  readonly path: string;
  readonly offset: number;
  readonly size: number;
}

/** A file of a hub's listing, as it is written down from the steps of a driver, and read again. */
export interface ListedFile {
  path: string;
  size: number;
  mode?: number;
  /** `sha256:<64 hex>`, or `git:<40 hex>` for the id of a git blob. */
  digest?: string;
  location: string;
}

/** A layer of a manifest, as far as it matters here. */
export interface Layer {
  mediaType: string;
  digest: OciDigest;
  size: number;
  annotations?: Record<string, string>;
}

/** What tells what a manifest is, in the order in which it counts. */
export interface ManifestKind {
  artifactType?: string;
  configType?: string;
  layers: readonly Layer[];
}

/** What a manifest says of one of its layers. */
export interface LayerPlan {
  readonly layer: Layer;
  /** As in FileNode. */
  readonly kind?: string;
  /** Of its files, by path. */
  readonly checksums?: ReadonlyMap<string, FileChecksums>;
  readonly holds: /** The layer is the file, or stands for a directory. */
    | { readonly kind: 'file' | 'directory'; readonly node: Omit<FileNode, 'content'> }
    /** A tar of files, whose names lie in `folder` where there is one. */
    | { readonly kind: 'tar'; readonly codec: StreamCodec; readonly folder?: string };
}

/**
 * An object whose bytes are one file.
 * @param place names where it comes from: with {@link WholeDigest} `sha256` the id does not depend on it
 */
export function objectOf(file: {
  size: number;
  whole?: WholeDigest;
  location?: string;
  /** A text: registry and repository, or the hub's. */
  place: string;
}): StoredObject {
  const { size, whole, location, place } = file;
  const id =
    whole?.algorithm === 'sha256'
      ? whole.hex
      : // Files with one SHA-1 can be made: by it they are the same within one place alone.
        hexOf(whole === undefined ? `none ${size} ${place} ${location}` : `git-sha1 ${size} ${whole.hex} ${place}`);
  return {
    id,
    digest: `sha256:${id}`,
    size,
    origin: hexOf(place),
    ...(whole && { whole }),
    ...(location !== undefined && { location }),
  };
}

/** What a layer unpacks to, as an object. @param layer that has its digest */
export function unpackedObject({ digest, size }: Layer, unpacked: Unpacked, place: string): StoredObject {
  const id = hexOf(`unpacked ${unpacked.codec} ${digest}`);
  return { id, digest, size: unpacked.size, storedSize: size, origin: hexOf(place), unpacked };
}

function hexOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
