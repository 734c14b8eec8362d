import { hash } from 'node:crypto';
import type { Choice } from '../daemon/api.ts';
import { corrupt, NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { chooseAsContainerd, chooseImage } from '../mount/choose.ts';
import { MANIFEST_LIMIT, parseDescriptor, parseJsonObject } from '../sources/descriptor.ts';
import { isDigest } from '../sources/digest.ts';
import type { Descriptor, Manifest, Repository } from '../sources/source.ts';

/** An image as containerd takes it apart: what its records and labels are made of. */
export interface ImageToPull {
  /** The reference in full: the name of containerd's record. */
  reference: string;
  /** What the record points to: the index, or the manifest. */
  target: Descriptor;
  /** There if it is the target. */
  index?: Manifest;
  manifest: Manifest;
  config: { descriptor: Descriptor; bytes: Uint8Array };
  /** Lowest first; at least one. */
  layers: Descriptor[];
  /** Digest of each layer's tar. */
  diffIds: OciDigest[];
  /** Names of the snapshots of layers upon layers. */
  chainIds: OciDigest[];
  choice?: Choice;
}

const CONFIGS = new Set(['application/vnd.oci.image.config.v1+json', 'application/vnd.docker.container.image.v1+json']);
/** What containerd takes for a layer (`images.IsLayerType`). */
const LAYER = /^application\/vnd\.(oci\.image\.layer\.|docker\.image\.rootfs\.(foreign\.)?diff\.tar)/;

/**
 * Reads manifest and configuration.
 * @param lazily takes a Nydus image where there is one (`chooseImage`), else what containerd would take
 * @param pinned as for `chooseImage`
 * @throws NymphError `unsupported` for what is no container image
 */
export async function readImage(
  from: Repository,
  platform: string | undefined,
  { lazily, pinned }: { lazily: boolean; pinned: boolean },
  signal: AbortSignal,
): Promise<ImageToPull> {
  const { named, manifest, layers, choice } = lazily
    ? await chooseImage(from, platform, pinned, signal)
    : await chooseAsContainerd(from, platform, signal);
  // containerd chooses again whenever it reads an index: where it may take the other image, the record names ours itself.
  const index = named !== manifest && choice === undefined ? named : undefined;
  const descriptor = parseDescriptor(
    parseJsonObject(manifest.bytes, from.reference).config,
    `config of ${from.reference}`,
  );
  if (!CONFIGS.has(descriptor.mediaType)) throw noImage(from, `its configuration is ${descriptor.mediaType}`);
  const odd = layers.find(({ mediaType }) => !LAYER.test(mediaType));
  if (odd !== undefined) throw noImage(from, `it has a layer of type ${odd.mediaType}`);
  if (layers.length === 0) throw noImage(from, 'it has no layers');
  const bytes = await from.get(descriptor, MANIFEST_LIMIT, signal);
  const diffIds = readDiffIds(bytes, `config of ${from.reference}`);
  if (diffIds.length !== layers.length)
    throw corrupt(`config of ${from.reference}`, 'diff_ids', 0, `are ${diffIds.length} for ${layers.length} layers`);
  return {
    reference: from.reference,
    target: (index ?? manifest).descriptor,
    ...(index && { index }),
    manifest,
    config: { descriptor, bytes },
    layers,
    diffIds,
    chainIds: chainIds(diffIds),
    ...(choice && { choice }),
  };
}

/** The chain ids of an image that a reference names by the digest of its manifest. */
export async function readChainIds(from: Repository, signal: AbortSignal): Promise<OciDigest[]> {
  const { bytes } = await from.resolve(signal);
  const name = `config of ${from.reference}`;
  const descriptor = parseDescriptor(parseJsonObject(bytes, from.reference).config, name);
  return chainIds(readDiffIds(await from.get(descriptor, MANIFEST_LIMIT, signal), name));
}

/** image-spec "Layer ChainID": the digest of all layers up to each. */
export function chainIds(diffIds: readonly OciDigest[]): OciDigest[] {
  const chain: OciDigest[] = [];
  for (const [i, diffId] of diffIds.entries())
    chain.push(i === 0 ? diffId : `sha256:${hash('sha256', `${chain[i - 1]} ${diffId}`, 'hex')}`);
  return chain;
}

function readDiffIds(bytes: Uint8Array, name: string): OciDigest[] {
  const { rootfs } = parseJsonObject(bytes, name);
  const diffIds = (rootfs as { diff_ids?: unknown } | null | undefined)?.diff_ids;
  if (!Array.isArray(diffIds) || !diffIds.every(isDigest)) throw corrupt(name, 'diff_ids', 0, 'is no list of digests');
  return diffIds;
}

function noImage(from: Repository, why: string): NymphError {
  return new NymphError('unsupported', `${from.reference} is no container image: ${why}`);
}
