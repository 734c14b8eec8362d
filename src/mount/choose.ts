import type { Choice } from '../daemon/api.ts';
import { NymphError } from '../errors.ts';
import { isNydusImage } from '../formats/rafs/manifest.ts';
import { isIndexType, parseDescriptor, parseIndex, parseJsonObject } from '../sources/descriptor.ts';
import {
  isNydusDescriptor,
  machinePlatform,
  NYDUS_ARTIFACT,
  parsePlatform,
  selectManifest,
} from '../sources/platform.ts';
import type { Descriptor, Manifest, Repository } from '../sources/source.ts';

/** The manifest that a reference comes to. */
export interface ChosenImage {
  manifest: Manifest;
  layers: Descriptor[];
  choice?: Choice;
}

/** Referrers that are looked at: anybody who may push can add some. */
const MOST_REFERRERS = 8;

/**
 * Finds the manifest that a reference means. Of an index, the Nydus image for the platform; where it has only an ordinary
 * one, or the reference names one, a Nydus image that refers to it, if there is one.
 * @param pinned whether the reference is a digest: then nothing counts that the digest does not cover, as referrers
 * @throws NymphError
 */
export async function chooseImage(
  from: Repository,
  platform: string | undefined,
  pinned: boolean,
  signal: AbortSignal,
): Promise<ChosenImage> {
  const named = await from.resolve(signal);
  if (!isIndexType(named.descriptor.mediaType))
    return nydusFor(from, withLayers(named, from.reference), pinned, signal);
  const wanted = platform === undefined ? machinePlatform() : parsePlatform(platform);
  const descriptors = parseIndex(named.bytes, from.reference);
  const descriptor = selectManifest(descriptors, wanted);
  const manifest = await from.manifest(descriptor.digest, signal);
  if (isIndexType(manifest.descriptor.mediaType))
    throw new NymphError('unsupported', `${from.reference}: an index within an index`);
  const image = withLayers(manifest, from.reference);
  if (!isNydusImage(image.layers)) return nydusFor(from, image, pinned, signal);
  const ordinary = descriptors.filter((other) => !isNydusDescriptor(other));
  const sibling = ordinary.length === 0 ? undefined : selectOrNone(ordinary, wanted);
  if (sibling === undefined || sibling === descriptor) return image;
  return { ...image, choice: { by: 'index', ordinary: sibling.digest } };
}

/** The image itself if it is a Nydus one, else one that refers to it; itself again where there is none. */
async function nydusFor(
  from: Repository,
  image: ChosenImage,
  pinned: boolean,
  signal: AbortSignal,
): Promise<ChosenImage> {
  if (pinned || !from.referrers || isNydusImage(image.layers)) return image;
  const { digest } = image.manifest.descriptor;
  const referrers = await from.referrers(digest, signal);
  const marked = referrers.filter(({ artifactType }) => artifactType === NYDUS_ARTIFACT);
  // Builders before the mark gave their manifests none, or that of a config.
  const others = referrers.filter(
    ({ artifactType = '' }) => artifactType === '' || artifactType.includes('.image.config.'),
  );
  for (const descriptor of [...marked, ...others].slice(0, MOST_REFERRERS)) {
    if (isIndexType(descriptor.mediaType)) continue;
    const manifest = await from.manifest(descriptor.digest, signal);
    const { subject } = parseJsonObject(manifest.bytes, from.reference);
    if ((subject as { digest?: unknown } | undefined)?.digest !== digest) continue;
    const candidate = withLayers(manifest, from.reference);
    if (isNydusImage(candidate.layers)) return { ...candidate, choice: { by: 'referrer', ordinary: digest } };
  }
  return image;
}

function selectOrNone(
  descriptors: readonly Descriptor[],
  platform: Parameters<typeof selectManifest>[1],
): Descriptor | undefined {
  try {
    return selectManifest(descriptors, platform);
  } catch (error) {
    if (error instanceof NymphError && error.code === 'not-found') return undefined;
    throw error;
  }
}

function withLayers(manifest: Manifest, name: string): ChosenImage {
  const { layers } = parseJsonObject(manifest.bytes, name);
  if (!Array.isArray(layers)) throw new NymphError('unsupported', `${name} is no image: its manifest has no layers`);
  return { manifest, layers: layers.map((layer, i) => parseDescriptor(layer, `layers[${i}] of ${name}`)) };
}
