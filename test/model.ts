/** Model artifacts in OCI layouts, as modctl writes them: a layer for each file. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { tarHeader, tarMember } from './tar.ts';

export interface ModelFile {
  path: string;
  bytes: Uint8Array;
  /** `weight` by default. */
  kind?: string;
  mode?: number;
  /** RFC 3339. */
  mtime?: string;
  /** In place of what follows from path and kind. */
  mediaType?: string;
  annotations?: Record<string, string>;
}

export interface ModelOptions {
  /** `cnai`: the names before v0.0.7. */
  spec?: 'cncf' | 'cnai';
  artifactType?: string | null;
  configType?: string;
}

export type Descriptor = { mediaType: string; digest: string; size: number; annotations?: Record<string, string> };

/**
 * Writes a model into an OCI layout, beside what is there.
 * @returns the digest of its manifest
 */
export function makeModel(
  layout: string,
  tag: string,
  files: readonly ModelFile[],
  options: ModelOptions = {},
): string {
  const { spec = 'cncf' } = options;
  const layers = files.map((file) => layerOf(layout, file, spec));
  const config = put(layout, options.configType ?? `application/vnd.${spec}.model.config.v1+json`, configOf(layers));
  const artifactType =
    options.artifactType === undefined ? `application/vnd.${spec}.model.manifest.v1+json` : options.artifactType;
  return putManifest(layout, tag, { ...(artifactType && { artifactType }), config, layers });
}

/** A tar of files as a layer, with a folder for each directory before it. Packed as the media type ends. */
export function tarLayer(
  layout: string,
  mediaType: string,
  files: readonly ModelFile[],
  annotations?: Record<string, string>,
): Descriptor {
  const folders = new Set(files.map(({ path }) => dirname(path)).filter((path) => path !== '.'));
  const tar = Buffer.concat([
    ...Array.from(folders, (name) => tarHeader({ name: `${name}/`, type: '5', size: 0, mode: 0o755 })),
    ...files.map(({ path, bytes, mode }) => tarMember(path, bytes, { mode, mtime: 1_700_000_000 })),
    Buffer.alloc(1024),
  ]);
  const packed = mediaType.endsWith('gzip') ? gzipSync(tar) : mediaType.endsWith('zstd') ? zstdCompressSync(tar) : tar;
  return { ...put(layout, mediaType, packed), ...(annotations && { annotations }) };
}

/** Writes a manifest and names it. @returns its digest */
export function putManifest(layout: string, tag: string, fields: object): string {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = put(layout, mediaType, Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields })));
  const index = join(layout, 'index.json');
  const manifests = readOr<{ manifests: Descriptor[] }>(index, { manifests: [] }).manifests.filter(
    ({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] !== tag,
  );
  manifests.push({ ...manifest, annotations: { 'org.opencontainers.image.ref.name': tag } });
  writeFileSync(index, JSON.stringify({ schemaVersion: 2, manifests }));
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return manifest.digest;
}

/** Writes a blob. */
export function put(layout: string, mediaType: string, bytes: Uint8Array): Descriptor {
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
  const hex = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(layout, 'blobs/sha256', hex), bytes);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}

function layerOf(layout: string, file: ModelFile, spec: string): Descriptor {
  const { path, bytes, kind = 'weight', mode = 0o644, mtime = '2025-11-10T09:08:07.123456789+02:00' } = file;
  const metadata = {
    name: path.slice(path.lastIndexOf('/') + 1),
    mode,
    uid: 1000,
    gid: 1000,
    size: bytes.length,
    mtime,
    typeflag: 0,
  };
  const annotations = file.annotations ?? {
    [`org.${spec}.model.filepath`]: path,
    [`org.${spec}.model.file.metadata+json`]: JSON.stringify(metadata),
  };
  return { ...put(layout, file.mediaType ?? `application/vnd.${spec}.model.${kind}.v1.raw`, bytes), annotations };
}

function configOf(layers: readonly Descriptor[]): Buffer {
  const config = {
    descriptor: { createdAt: '2026-11-28T00:00:00Z', name: 'tiny', family: 'qwen2' },
    config: { architecture: 'transformer', format: 'safetensors', paramSize: '0.5b', precision: 'bfloat16' },
    modelfs: { type: 'layers', diffIds: layers.map(({ digest }) => digest) },
  };
  return Buffer.from(JSON.stringify(config));
}

function readOr<T>(path: string, otherwise: T): T {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    return otherwise;
  }
}
