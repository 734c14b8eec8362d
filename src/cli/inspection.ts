import type { Choice } from '../daemon/api.ts';
import type { BootstrapDescription } from '../formats/rafs/describe.ts';
import { type Blob, CODECS, contentSize } from '../image/image.ts';
import type { OpenedImage } from '../mount/open.ts';
import type { Descriptor } from '../sources/source.ts';

/** What `nymph inspect` tells of an image; printed as it is with `--json`. Sizes in bytes. */
export interface Inspection {
  reference: string;
  /** Where it was read: a registry, an OCI layout or a folder. */
  kind: string;
  digest: string;
  /** How the reference led to it, if it names no Nydus image itself. */
  choice?: Choice;
  mediaType: string;
  format: string;
  bootstrap: Pick<
    BootstrapDescription,
    'size' | 'flags' | 'compressor' | 'digester' | 'chunkSize' | 'buildTime' | 'counts'
  >;
  layers: { role: LayerRole; digest: string; mediaType: string; size: number }[];
  blobs: BlobInspection[];
  totals: { inodes: number; chunks: number; size: number; storedSize: number };
  /** Ranges that the builder asked to be fetched first. */
  prefetch: 'all' | { ranges: number; size: number };
  integrity: { verifiable: boolean; statement: string };
}

/** `reference`: chunk information for a gzip layer (ZRAN), which is no layer of this manifest. */
export type LayerRole = 'bootstrap' | 'blob' | 'reference' | 'other';

export interface BlobInspection {
  id: string;
  digest: string;
  size: number;
  storedSize: number;
  digestAlgorithm: string;
  features: readonly string[];
  chunks: number;
  frames: number;
  /** Number of frames by codec; codecs that do not occur are left out. */
  codecs: Record<string, number>;
}

export function inspectImage(opened: OpenedImage, description: BootstrapDescription): Inspection {
  const { image, manifest } = opened;
  const { size, flags, compressor, digester, chunkSize, buildTime, counts, blobs: described } = description;
  const features = new Map(described.map((blob) => [blob.id, blob.features]));
  const blobs = image.blobs.map((blob) => inspectBlob(blob, features.get(blob.id) ?? []));
  return {
    reference: opened.reference,
    kind: opened.kind,
    digest: manifest.descriptor.digest,
    ...(opened.choice ? { choice: opened.choice } : {}),
    mediaType: manifest.descriptor.mediaType,
    format: description.format,
    bootstrap: { size, flags, compressor, digester, chunkSize, buildTime, counts },
    layers: opened.layers.map((layer) => ({
      role: layerRole(layer),
      digest: layer.digest,
      mediaType: layer.mediaType,
      size: layer.size,
    })),
    blobs,
    totals: {
      inodes: image.inodes,
      chunks: sum(blobs.map((blob) => blob.chunks)),
      size: contentSize(image),
      storedSize: sum(blobs.map((blob) => blob.storedSize)),
    },
    prefetch:
      image.prefetch === 'all'
        ? 'all'
        : { ranges: image.prefetch.length, size: sum(image.prefetch.map((range) => range.length)) },
    integrity: { verifiable: image.verifiable, statement: integrityOf(opened) },
  };
}

function inspectBlob(blob: Blob, features: readonly string[]): BlobInspection {
  const codecs: Record<string, number> = {};
  for (const codec of blob.frames.codec.subarray(0, blob.frames.count)) {
    const name = CODECS[codec] ?? `codec ${codec}`;
    codecs[name] = (codecs[name] ?? 0) + 1;
  }
  return {
    id: blob.id,
    digest: blob.digest,
    size: blob.size,
    storedSize: blob.storedSize,
    digestAlgorithm: blob.digestAlgorithm,
    features,
    chunks: blob.chunks.count,
    frames: blob.frames.count,
    codecs,
  };
}

/** Annotations that Nydus builders put on layers (nydus-snapshotter `pkg/label`). */
function layerRole(layer: Descriptor): LayerRole {
  const { annotations = {} } = layer;
  if (annotations['containerd.io/snapshot/nydus-bootstrap'] !== undefined) return 'bootstrap';
  if (annotations['containerd.io/snapshot/nydus-ref'] !== undefined) return 'reference';
  if (annotations['containerd.io/snapshot/nydus-blob'] !== undefined) return 'blob';
  return 'other';
}

/** What is guaranteed about the bytes that a reader gets. */
function integrityOf({ image, kind }: OpenedImage): string {
  const algorithms = [...new Set(image.blobs.map((blob) => blob.digestAlgorithm))].join(' and ');
  const anchor =
    kind === 'folder' || kind === 'nydusd'
      ? 'The bootstrap itself is taken as it is: no manifest vouches for it.'
      : 'The bootstrap is verified against the manifest, and the manifest against its digest.';
  const chunks = image.verifiable
    ? image.blobs.length === 0
      ? 'All content is in the bootstrap.'
      : `Every chunk has a ${algorithms} digest in the bootstrap and is verified before a byte of it is served.`
    : 'Not every byte has a chunk digest: what has none cannot be verified.';
  return `${chunks} ${anchor}`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
