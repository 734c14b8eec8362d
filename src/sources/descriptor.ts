import { corrupt, NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { isDigest } from './digest.ts';
import type { Descriptor } from './source.ts';

/** distribution-spec: clients and registries limit manifests to 4 MiB. */
export const MANIFEST_LIMIT = 4 * 1024 * 1024;

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';

/** The listing of a hub's repository: nymph's own, never in a registry. */
export const FILES_MANIFEST = 'application/vnd.nymph.files.v1+json';

/** True for an OCI index and Docker's manifest list: what {@link parseIndex} reads. */
export function isIndexType(mediaType: string): boolean {
  return mediaType === OCI_INDEX || mediaType === DOCKER_INDEX;
}

/**
 * The manifests of an index (image-spec "Image Index"), in order.
 * @param name what is read, for errors: a reference or path
 * @throws NymphError `corrupt`
 */
export function parseIndex(bytes: Uint8Array, name: string): Descriptor[] {
  const value = parseJsonObject(bytes, name);
  if (!Array.isArray(value.manifests)) throw corrupt(name, 'manifests', 0, 'is not a list');
  return value.manifests.map((entry, i) => parseDescriptor(entry, `manifests[${i}] of ${name}`));
}

/** A JSON object of at most {@link MANIFEST_LIMIT} bytes. */
export function parseJsonObject(bytes: Uint8Array, name: string): Record<string, unknown> {
  if (bytes.length > MANIFEST_LIMIT) throw corrupt(name, 'size', 0, `is ${bytes.length}, more than ${MANIFEST_LIMIT}`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    // The parser's words quote what is there: it may be anything.
    throw corrupt(name, 'document', 0, 'is not JSON');
  }
  if (!isObject(value)) throw corrupt(name, 'document', 0, 'is not an object');
  return value;
}

/**
 * Checks an untrusted value against the OCI descriptor (image-spec "Content Descriptors"); what we do not use is left out.
 * @param name what is read, for errors
 * @throws NymphError `corrupt`; `unsupported` for another digest algorithm
 */
export function parseDescriptor(value: unknown, name: string): Descriptor {
  if (!isObject(value)) throw corrupt(name, 'descriptor', 0, 'is not an object');
  const { mediaType, digest, size, annotations, artifactType, platform } = value;
  if (typeof mediaType !== 'string') throw corrupt(name, 'mediaType', 0, 'is not a string');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw corrupt(name, 'size', 0, 'is not a size');
  const descriptor: Descriptor = { mediaType, digest: checkDigest(digest, name), size };
  if (annotations !== undefined && annotations !== null) descriptor.annotations = parseAnnotations(annotations, name);
  if (typeof artifactType === 'string') descriptor.artifactType = artifactType;
  if (isObject(platform)) descriptor.platform = platformOf(platform);
  return descriptor;
}

function checkDigest(digest: unknown, name: string): OciDigest {
  if (isDigest(digest)) return digest;
  if (typeof digest === 'string' && /^sha512:[0-9a-f]{128}$/.test(digest))
    throw new NymphError('unsupported', `${name}: digests other than sha256 are not supported`);
  throw corrupt(name, 'digest', 0, 'is not a sha256 digest');
}

/** Annotations of a descriptor, a manifest or an index: texts by name. @throws NymphError `corrupt` */
export function parseAnnotations(value: unknown, name: string): Record<string, string> {
  if (!isObject(value)) throw corrupt(name, 'annotations', 0, 'is not an object');
  if (Object.values(value).some((text) => typeof text !== 'string'))
    throw corrupt(name, 'annotations', 0, 'has a value that is not a string');
  return value as Record<string, string>;
}

function platformOf(value: Record<string, unknown>): Descriptor['platform'] {
  const text = (key: string) => (typeof value[key] === 'string' ? { [key]: value[key] } : {});
  const features = value['os.features'];
  return {
    ...text('os'),
    ...text('architecture'),
    ...text('variant'),
    ...(Array.isArray(features) ? { 'os.features': features.filter((entry) => typeof entry === 'string') } : {}),
  };
}

/** A JSON object: no array, no null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
