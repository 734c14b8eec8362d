import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { checkSizes } from '../formats/rafs/write/sizes.ts';
import { OCI_INDEX } from '../sources/descriptor.ts';
import { NYDUS_ARTIFACT, NYDUS_FEATURE, type Platform } from '../sources/platform.ts';
import type { Descriptor, Manifest, Repository } from '../sources/source.ts';
import { bytesToPut, type Target } from '../sources/target.ts';
import { createThreadPool } from '../threads/pool.ts';
import type { LeftOut } from './attributes.ts';
import type { BuildControl, ImageOptions } from './build-image.ts';
import { copyImage } from './copy-image.ts';
import { historyOf } from './history.ts';
import { mergeLayers } from './merge.ts';
import { fileToPut } from './oci-layout.ts';
import { type LayerPacking, type PackedLayer, packLayer } from './pack-layer.ts';
import { jsonObject, packageImage } from './package.ts';
import { createPortion, eachOf } from './several.ts';
import { findSourceImages, type SourceImage } from './source-image.ts';

export interface ConvertRequest {
  from: Repository;
  to: Target;
  /** Tag of what is made; without one it can be found as a referrer of what it was made from. */
  tag?: string;
  /** What is made is put where the ordinary image is. */
  inPlace: boolean;
  /** Repository of the target's registry that has the ordinary image, if it is in that registry. */
  mountFrom?: string;
  /** Of an index. */
  platforms: 'all' | readonly Platform[];
  /** Whether the tag means both, the ordinary images and the Nydus ones. */
  index: boolean;
  options: ImageOptions;
  /** For blobs until they are sent, and for layers while they are packed. */
  directory: string;
}

export interface ConvertedImage {
  platform: Platform;
  /** Digest of the ordinary manifest. */
  source: string;
  digest: string;
  /** One for each layer; those without content have no blob. */
  layers: { source: string; sourceSize: number; blob?: string; size?: number; how?: string }[];
  names: number;
  /** Bytes of all files. */
  content: number;
  leftOut: LeftOut;
}

export interface Conversion {
  /** Of the manifest, or of the index if there is one. */
  digest: string;
  mediaType: string;
  images: ConvertedImage[];
}

/** Layers that are on their way at once: one is read or sent while another is packed. */
const LAYERS_AT_ONCE = 3;

/**
 * Makes Nydus images (RAFS v6) of ordinary ones, and puts them to a target: a blob for each layer, and a bootstrap of all.
 * @throws NymphError
 */
export async function convertImage(request: ConvertRequest, control: BuildControl): Promise<Conversion> {
  const { from, to, tag, inPlace, index } = request;
  const packing = packingOf(request.options);
  control.progress({ stage: 'resolving' });
  const { images, entries } = await findSourceImages(from, request.platforms, control.signal);
  const made: { image: SourceImage; converted: ConvertedImage; manifest: Manifest }[] = [];
  const single = images.length === 1 && !index;
  for (const image of images) {
    if (index && !inPlace) await copyImage(from, to, image, request.mountFrom, control);
    const { converted, manifest } = await convertOne(request, image, packing, control);
    const subject = inPlace || index ? image.manifest.descriptor.digest : undefined;
    await to.putManifest(manifest, { tag: single ? tag : undefined, subject }, control.signal);
    made.push({ image, converted, manifest });
  }
  const conversions = made.map(({ converted }) => converted);
  if (single || tag === undefined) return { ...resultOf(made[0].manifest), images: conversions };

  const nydus = made.map(({ image, manifest }) => indexEntry(image, manifest));
  // Clients take the first that fits: those that know no Nydus must meet the ordinary one first.
  const ordinary = inPlace && entries.length > 0 ? entries.filter(isOrdinary) : images.map(({ entry }) => entry);
  const manifests = index ? [...ordinary, ...nydus] : nydus;
  const document = jsonObject(OCI_INDEX, { schemaVersion: 2, mediaType: OCI_INDEX, manifests });
  await to.putManifest(document, { tag }, control.signal);
  return { ...resultOf(document), images: conversions };
}

async function convertOne(
  request: ConvertRequest,
  image: SourceImage,
  packing: LayerPacking,
  control: BuildControl,
): Promise<{ converted: ConvertedImage; manifest: Manifest }> {
  const { from, to, options, inPlace, index, directory } = request;
  // Images may have the same layer several times, empty ones above all.
  const distinct = [...new Map(image.layers.map((layer) => [layer.digest, layer])).values()];
  const reading = createPortion(distinct.map(({ size }) => size));
  const sending = createPortion(distinct.map(() => 0));
  const report = () =>
    reading.done < reading.total
      ? control.progress({ stage: 'converting', done: reading.done, total: reading.total })
      : control.progress({ stage: 'sending', done: sending.done, total: sending.total });

  const pool = createThreadPool(availableParallelism());
  const sent = new Map<string, { layer: PackedLayer; how?: string }>();
  try {
    await eachOf(distinct, LAYERS_AT_ONCE, control.signal, async (layer, number, signal) => {
      const packed = await packLayer(from, layer, packing, {
        ...{ number, directory, pool, signal },
        progress: (bytes) => {
          reading.set(number, bytes);
          report();
        },
      });
      reading.set(number, layer.size);
      sent.set(layer.digest, {
        layer: packed,
        ...(packed.blob ? { how: await send(packed.blob, number, signal) } : {}),
      });
    });
  } finally {
    await pool.close();
  }

  async function send(
    { id, size }: { id: string; size: number },
    number: number,
    signal: AbortSignal,
  ): Promise<string> {
    const file = join(directory, id);
    sending.expect(number, size);
    const blob = fileToPut({ digest: `sha256:${id}`, size }, file);
    const progress = (bytes: number) => {
      sending.set(number, bytes);
      report();
    };
    const how = await to.put({ ...blob, progress }, signal);
    progress(size);
    await rm(file);
    return how;
  }

  const merged = await mergeLayers(
    image.layers.map(({ digest }) => sent.get(digest)!.layer),
    { ...packing, prefetch: options.prefetch, buildTime: options.buildTime },
  );
  const { digest, mediaType, size } = image.manifest.descriptor;
  const layers = image.layers.map((layer): ConvertedImage['layers'][number] => {
    const { layer: packed, how } = sent.get(layer.digest)!;
    const source = { source: layer.digest, sourceSize: layer.size };
    return packed.blob ? { ...source, blob: `sha256:${packed.blob.id}`, size: packed.blob.size, how } : source;
  });
  const used = new Set(merged.blobs.map(({ id }) => `sha256:${id}`));
  const created = typeof image.config.created === 'string' ? image.config.created : undefined;
  const packed = await packageImage(
    { bootstrap: merged.bootstrap, blobs: merged.blobs.map(({ id, size, tail }) => ({ id, size, meta: tail.meta })) },
    {
      config: image.config,
      history: historyOf(
        image.config,
        layers.map(({ blob }) => blob !== undefined && used.has(blob)),
      ),
      created,
      annotations: image.annotations,
      ...(inPlace || index ? { subject: { mediaType, digest, size } } : {}),
    },
  );
  for (const { descriptor, bytes } of [packed.bootstrap, packed.config])
    await to.put(bytesToPut(descriptor, bytes), control.signal);
  const { platform } = image;
  const { names, content, leftOut } = merged;
  const manifest = packed.manifest;
  return {
    converted: { platform, source: digest, digest: manifest.descriptor.digest, layers, names, content, leftOut },
    manifest: { ...manifest, descriptor: { ...manifest.descriptor, artifactType: NYDUS_ARTIFACT } },
  };
}

/** @throws NymphError `usage` */
function packingOf(options: ConvertRequest['options']): LayerPacking {
  const { chunkSize = 1 << 20, compressor = 'zstd', level = 3, digester = 'blake3', batchSize = 0 } = options;
  checkSizes(chunkSize, batchSize);
  return { chunkSize, compressor, level, digester, batchSize };
}

/** With both marks that readers look for: older ones for the feature, newer ones for the type. */
function indexEntry({ entry }: SourceImage, { descriptor }: Manifest): Record<string, unknown> {
  const platform = entry.platform as Record<string, unknown>;
  const features = Array.isArray(platform['os.features']) ? platform['os.features'] : [];
  return { ...descriptor, platform: { ...platform, 'os.features': [...features, NYDUS_FEATURE] } };
}

function isOrdinary(entry: Record<string, unknown>): boolean {
  const { artifactType, platform } = entry as Partial<Descriptor>;
  return artifactType !== NYDUS_ARTIFACT && !platform?.['os.features']?.includes(NYDUS_FEATURE);
}

function resultOf({ descriptor }: Manifest): { digest: string; mediaType: string } {
  return { digest: descriptor.digest, mediaType: descriptor.mediaType };
}
