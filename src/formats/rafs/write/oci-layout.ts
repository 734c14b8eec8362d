import { link, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { digestOf } from '../../../codec/digest.ts';
import type { OciDigest } from '../../../image/image.ts';
import type { BuiltImage } from './build.ts';
import { tarOf } from './tar.ts';

/** A descriptor (OCI image-spec, "Content Descriptors"). */
export interface Descriptor {
  mediaType: string;
  digest: OciDigest;
  size: number;
  annotations?: Record<string, string>;
}

export interface LayoutOptions {
  /** `org.opencontainers.image.ref.name` in the index; an image with this name is replaced. */
  tag: string;
  /** Where the blobs are, named by their ids; they get a hard link in the layout. Default: already in the layout. */
  blobs?: string;
  /** Fields of the OCI config besides `rootfs`, for example `config`. Default `{ architecture: 'amd64', os: 'linux' }`. */
  config?: Record<string, unknown>;
}

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const NYDUS_BLOB = 'application/vnd.oci.image.layer.nydus.blob.v1';
const BOOTSTRAP_LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const REF_NAME = 'org.opencontainers.image.ref.name';

/**
 * Puts a built image into an OCI layout: a manifest with the Nydus blobs as layers and the bootstrap as the last layer,
 * as `nydusify` makes it. The layout is made where there is none; other images in it stay.
 * @param layout directory
 * @returns the manifest's descriptor, as it is in the index
 */
export async function writeOciLayout(layout: string, image: BuiltImage, options: LayoutOptions): Promise<Descriptor> {
  const objects = join(layout, 'blobs', 'sha256');
  await mkdir(objects, { recursive: true });
  const put = async (mediaType: string, bytes: Uint8Array): Promise<Descriptor> => {
    const id = hex(bytes);
    await replaceFile(join(objects, id), bytes);
    return { mediaType, digest: `sha256:${id}`, size: bytes.length };
  };

  const layers: Descriptor[] = [];
  for (const { id, size } of image.blobs) {
    await linkBlob(options.blobs ?? objects, objects, id);
    const annotations = { 'containerd.io/snapshot/nydus-blob': 'true' };
    layers.push({ mediaType: NYDUS_BLOB, digest: `sha256:${id}`, size, annotations });
  }
  const tar = tarOf([
    { name: 'image/', content: null },
    { name: 'image/image.boot', content: await readFile(image.bootstrap) },
    ...image.blobs.map(({ id, meta }) => ({ name: `image/${id}.blob.meta`, content: meta })),
  ]);
  const diffIds = [...layers.map(({ digest }) => digest), `sha256:${hex(tar)}`];
  layers.push({
    ...(await put(BOOTSTRAP_LAYER, await promisify(gzip)(tar))),
    annotations: {
      'containerd.io/snapshot/nydus-bootstrap': 'true',
      'containerd.io/snapshot/nydus-fs-version': '6',
    },
  });
  const config = await put(
    CONFIG,
    json({
      ...(options.config ?? { architecture: 'amd64', os: 'linux' }),
      rootfs: { type: 'layers', diff_ids: diffIds },
      history: layers.map(() => ({ created_by: 'nymph' })),
    }),
  );
  const manifest = await put(MANIFEST, json({ schemaVersion: 2, mediaType: MANIFEST, config, layers }));
  const descriptor = { ...manifest, annotations: { [REF_NAME]: options.tag } };
  await updateIndex(layout, descriptor);
  return descriptor;
}

async function linkBlob(from: string, to: string, id: string): Promise<void> {
  const target = join(to, id);
  try {
    await link(join(from, id), target);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    await stat(target);
  }
}

async function updateIndex(layout: string, descriptor: Descriptor): Promise<void> {
  const path = join(layout, 'index.json');
  let others: Descriptor[] = [];
  try {
    others = (JSON.parse(await readFile(path, 'utf8')) as { manifests: Descriptor[] }).manifests;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const tag = descriptor.annotations?.[REF_NAME];
  const manifests = [...others.filter((other) => other.annotations?.[REF_NAME] !== tag), descriptor];
  await replaceFile(join(layout, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }));
  await replaceFile(path, json({ schemaVersion: 2, mediaType: INDEX, manifests }));
}

/** Readers see the old content or the new. */
async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const draft = `${path}.${process.pid}.tmp`;
  await writeFile(draft, bytes);
  await rename(draft, path);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(digestOf('sha256', bytes)).toString('hex');
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
