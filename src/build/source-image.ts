import { NymphError } from '../errors.ts';
import { isNydusImage } from '../formats/rafs/manifest.ts';
import { isIndexType, parseAnnotations, parseDescriptor, parseIndex, parseJsonObject } from '../sources/descriptor.ts';
import { isNydusDescriptor, type Platform, parsePlatform, selectManifest } from '../sources/platform.ts';
import type { Descriptor, Manifest, Repository } from '../sources/source.ts';

/** An ordinary image that is to be converted. */
export interface SourceImage {
  manifest: Manifest;
  platform: Platform;
  config: Record<string, unknown>;
  configDescriptor: Descriptor;
  layers: Descriptor[];
  annotations?: Record<string, string>;
  /** Its descriptor as the index has it, with fields that we do not know; with a platform. */
  entry: Record<string, unknown>;
}

export interface SourceImages {
  images: SourceImage[];
  /** Entries of the index that it came from, as they are; empty where there is none. */
  entries: Record<string, unknown>[];
}

const CONFIG_LIMIT = 16 << 20;
/** Media types of layers that are tars, packed in a way that the bytes tell. */
const TAR_LAYER =
  /^application\/vnd\.(?:oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)(?:[.+](?:gzip|zstd))?$/;

/**
 * Finds the ordinary images that a reference means.
 * @param wanted platforms of an index
 * @throws NymphError `usage` for what is a Nydus image already, `unsupported` for layers that are no tars
 */
export async function findSourceImages(
  from: Repository,
  wanted: 'all' | readonly Platform[],
  signal: AbortSignal,
): Promise<SourceImages> {
  const named = await from.resolve(signal);
  if (!isIndexType(named.descriptor.mediaType)) {
    const { annotations: _, ...descriptor } = named.descriptor;
    const image = await readImage(from, named, descriptor as unknown as Record<string, unknown>, signal);
    return { images: [image], entries: [] };
  }
  const entries = parseJsonObject(named.bytes, from.reference).manifests as Record<string, unknown>[];
  const descriptors = parseIndex(named.bytes, from.reference);
  const ordinary = descriptors.filter((descriptor) => !isNydusDescriptor(descriptor));
  const chosen =
    wanted === 'all'
      ? ordinary.filter(({ platform }) => platform?.os !== undefined && platform.os !== 'unknown')
      : [...new Set(wanted.map((platform) => selectManifest(ordinary, platform)))];
  if (chosen.length === 0) throw new NymphError('not-found', `${from.reference} has no image for any platform`);
  const images: SourceImage[] = [];
  for (const descriptor of chosen) {
    const manifest = await from.manifest(descriptor.digest, signal);
    images.push(await readImage(from, manifest, entries[descriptors.indexOf(descriptor)], signal));
  }
  return { images, entries };
}

async function readImage(
  from: Repository,
  manifest: Manifest,
  entry: Record<string, unknown>,
  signal: AbortSignal,
): Promise<SourceImage> {
  const name = `${from.reference} (${manifest.descriptor.digest})`;
  if (isIndexType(manifest.descriptor.mediaType))
    throw new NymphError('unsupported', `${name}: an index within an index`);
  const document = parseJsonObject(manifest.bytes, name);
  if (!Array.isArray(document.layers) || document.config === undefined)
    throw new NymphError('unsupported', `${name} is no image: its manifest has no layers or no config`);
  const layers = document.layers.map((layer, i) => parseDescriptor(layer, `layers[${i}] of ${name}`));
  if (isNydusImage(layers)) throw new NymphError('usage', `${name} is a Nydus image already`);
  for (const { mediaType, digest } of layers)
    if (!TAR_LAYER.test(mediaType))
      throw new NymphError(
        'unsupported',
        `${name}: layer ${digest} of type ${mediaType} is no tar that can be fetched`,
      );
  const configDescriptor = parseDescriptor(document.config, `config of ${name}`);
  const config = parseJsonObject(await from.get(configDescriptor, CONFIG_LIMIT, signal), `config of ${name}`);
  const platform = configPlatform(config);
  const { os, architecture, variant } = platform;
  const { annotations } = document;
  return {
    manifest,
    platform,
    config,
    configDescriptor,
    layers,
    ...(annotations ? { annotations: parseAnnotations(annotations, name) } : {}),
    entry: { platform: { architecture, os, ...(variant ? { variant } : {}) }, ...entry },
  };
}

function configPlatform(config: Record<string, unknown>): Platform {
  const [os, architecture, variant] = ['os', 'architecture', 'variant'].map((key) =>
    typeof config[key] === 'string' ? config[key] : '',
  );
  return parsePlatform([os || 'linux', architecture || 'amd64', variant].filter((part) => part !== '').join('/'));
}
