import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { tarOf } from '../formats/rafs/write/tar.ts';
import type { OciDigest } from '../image/image.ts';
import { OCI_MANIFEST } from '../sources/descriptor.ts';
import { sha256Digest } from '../sources/digest.ts';
import { NYDUS_ARTIFACT } from '../sources/platform.ts';
import type { Descriptor, Manifest } from '../sources/source.ts';

/** An object that is in memory. */
export interface PackedObject {
  descriptor: Descriptor;
  bytes: Uint8Array;
}

/** A Nydus image as registries keep it; its blobs are where they were built. */
export interface PackedImage {
  manifest: Manifest;
  config: PackedObject;
  bootstrap: PackedObject;
  /** The blobs as layers, in the order of the device table. */
  blobs: Descriptor[];
}

export interface PackageOptions {
  /** Fields of the OCI config besides `rootfs` and `history`. */
  config: Record<string, unknown>;
  /** Of the config, without the entry of the bootstrap layer. Default: an entry for each blob. */
  history?: readonly object[];
  /** For the history: RFC 3339. Left out where there is none. */
  created?: string;
  annotations?: Record<string, string>;
  /** The ordinary image that this one was made from, in the same repository. */
  subject?: Descriptor;
}

const CONFIG = 'application/vnd.oci.image.config.v1+json';
const NYDUS_BLOB = 'application/vnd.oci.image.layer.nydus.blob.v1';
const BOOTSTRAP_LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';

/**
 * Makes the manifest, the config and the bootstrap layer of a Nydus image, as nydusify makes them: blobs as layers, whose
 * diff ids are their digests, and the bootstrap as the last layer, a tar+gzip with the chunk information of each blob.
 */
export async function packageImage(
  image: { bootstrap: Uint8Array; blobs: readonly { id: string; size: number; meta: Uint8Array }[] },
  options: PackageOptions,
): Promise<PackedImage> {
  const blobs = image.blobs.map(
    ({ id, size }): Descriptor => ({
      mediaType: NYDUS_BLOB,
      digest: `sha256:${id}`,
      size,
      annotations: { 'containerd.io/snapshot/nydus-blob': 'true' },
    }),
  );
  const tar = tarOf([
    { name: 'image/', content: null },
    { name: 'image/image.boot', content: image.bootstrap },
    ...image.blobs.map(({ id, meta }) => ({ name: `image/${id}.blob.meta`, content: meta })),
  ]);
  const bootstrap = objectOf(BOOTSTRAP_LAYER, await promisify(gzip)(tar));
  bootstrap.descriptor.annotations = {
    'containerd.io/snapshot/nydus-bootstrap': 'true',
    'containerd.io/snapshot/nydus-fs-version': '6',
  };
  const created = options.created === undefined ? {} : { created: options.created };
  const history = options.history ?? blobs.map(() => ({ ...created, created_by: 'nymph build' }));
  const diffIds: OciDigest[] = [...blobs.map(({ digest }) => digest), sha256Digest(tar)];
  const config = jsonObject(CONFIG, {
    ...options.config,
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: [...history, { ...created, created_by: 'nymph', comment: 'Nydus Bootstrap Layer' }],
  });
  const manifest = jsonObject(OCI_MANIFEST, {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType: NYDUS_ARTIFACT,
    config: config.descriptor,
    layers: [...blobs, bootstrap.descriptor],
    ...(options.subject ? { subject: options.subject } : {}),
    ...(options.annotations ? { annotations: options.annotations } : {}),
  });
  return { manifest, config, bootstrap, blobs };
}

/** A document that registries keep under its digest. */
export function jsonObject(mediaType: string, value: object): PackedObject {
  return objectOf(mediaType, Buffer.from(JSON.stringify(value)));
}

function objectOf(mediaType: string, bytes: Uint8Array): PackedObject {
  return { descriptor: { mediaType, digest: sha256Digest(bytes), size: bytes.length }, bytes };
}
