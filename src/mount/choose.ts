import type { Choice } from '../daemon/api.ts';
import { NymphError } from '../errors.ts';
import { isNydusImage } from '../formats/rafs/manifest.ts';
import { isIndexType, parseDescriptor, parseIndex, parseJsonObject } from '../sources/descriptor.ts';
import {
  isNydusDescriptor,
  machinePlatform,
  NYDUS_ARTIFACT,
  type Platform,
  parsePlatform,
  selectAsContainerd,
  selectManifest,
} from '../sources/platform.ts';
import type { Descriptor, Manifest, Repository } from '../sources/source.ts';
import { type FilesKind, filesKind } from './files.ts';

/** The manifest that a reference comes to. */
export interface ChosenImage {
  /** What the reference names itself: that manifest, or an index. */
  named: Manifest;
  manifest: Manifest;
  layers: Descriptor[];
  choice?: Choice;
  /** What it holds, if it is no image of a container. */
  files?: FilesKind;
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
  if (from.kind === 'hub') {
    const listing = await from.resolve(signal);
    return { named: listing, manifest: listing, layers: [], files: 'hub' };
  }
  const { named, manifest, entries, entry, wanted } = await manifestOf(from, platform, selectManifest, signal);
  const image = withLayers(named, manifest, from.reference);
  if (image.files !== undefined) return image;
  if (!isNydusImage(image.layers)) return nydusFor(from, image, pinned, signal);
  const ordinary = entries.filter((other) => !isNydusDescriptor(other));
  const sibling = ordinary.length === 0 ? undefined : selectOrNone(ordinary, wanted);
  if (sibling === undefined || sibling === entry) return image;
  return { ...image, choice: { by: 'index', ordinary: sibling.digest } };
}

/** Finds the manifest that a reference means to containerd, to which Nydus images are images like others. */
export async function chooseAsContainerd(
  from: Repository,
  platform: string | undefined,
  signal: AbortSignal,
): Promise<ChosenImage> {
  const { named, manifest } = await manifestOf(from, platform, selectAsContainerd, signal);
  return withLayers(named, manifest, from.reference);
}

/** @returns the manifest, and where it is that of an index the `entry` for it, of all `entries` */
async function manifestOf(from: Repository, platform: string | undefined, select: Select, signal: AbortSignal) {
  const named = await from.resolve(signal);
  const wanted = platform === undefined ? machinePlatform() : parsePlatform(platform);
  if (!isIndexType(named.descriptor.mediaType)) return { named, manifest: named, entries: [], wanted };
  const entries = parseIndex(named.bytes, from.reference);
  const entry = select(entries, wanted);
  const manifest = await from.manifest(entry.digest, signal);
  if (isIndexType(manifest.descriptor.mediaType))
    throw new NymphError('unsupported', `${from.reference}: an index within an index`);
  return { named, manifest, entries, entry, wanted };
}

type Select = (entries: readonly Descriptor[], platform: Platform) => Descriptor;

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
    const candidate = withLayers(image.named, manifest, from.reference);
    if (isNydusImage(candidate.layers)) return { ...candidate, choice: { by: 'referrer', ordinary: digest } };
  }
  return image;
}

function selectOrNone(descriptors: readonly Descriptor[], platform: Platform): Descriptor | undefined {
  try {
    return selectManifest(descriptors, platform);
  } catch (error) {
    if (error instanceof NymphError && error.code === 'not-found') return undefined;
    throw error;
  }
}

function withLayers(named: Manifest, manifest: Manifest, name: string): ChosenImage {
  const { layers } = parseJsonObject(manifest.bytes, name);
  if (!Array.isArray(layers)) throw new NymphError('unsupported', `${name} is no image: its manifest has no layers`);
  const parsed = layers.map((layer, i) => parseDescriptor(layer, `layers[${i}] of ${name}`));
  const files = isNydusImage(parsed) ? undefined : filesKind(manifest, parsed, name);
  return { named, manifest, layers: parsed, ...(files && { files }) };
}
