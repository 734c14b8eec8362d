import type { Image } from '../image/image.ts';
import type { Descriptor, Manifest, Repository } from '../sources/source.ts';

/** What `inspect` and `run-check` are told of an image: its manifest, its parsed bootstrap, and the image they make. */
export interface OpenedImage {
  /** In full form. */
  reference: string;
  kind: Repository['kind'];
  /** Of the image, after platform selection. */
  manifest: Manifest;
  layers: readonly Descriptor[];
  image: Image;
  bootstrap: BootstrapFacts;
}

export interface BootstrapFacts {
  /** Bytes. */
  size: number;
  /** RAFS version: 6. */
  version: number;
  flags: readonly string[];
  compressor: string;
  digester: string;
  chunkSize: number;
  /** Number of inodes by kind: `files`, `directories`, `symlinks` … */
  inodes: Readonly<Record<string, number>>;
  /** Unix time in seconds; absent where the builder wrote none. */
  buildTime?: number;
  /** In the order of the device table. */
  blobs: readonly { id: string; features: readonly string[] }[];
}
