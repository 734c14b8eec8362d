import type { StreamCodec } from '../../image/image.ts';

/**
 * Media types of ModelPack (model-spec v0.0.7, docs/spec.md) and of CNAI, its name before: the same words behind another
 * prefix.
 */
export const MODEL_MANIFEST = 'application/vnd.cncf.model.manifest.v1+json';
export const MODEL_CONFIG = 'application/vnd.cncf.model.config.v1+json';
const PREFIX = 'application/vnd.cncf.model.';

/** How a layer holds its files: `raw`, it is the file; else a tar, packed so. */
export type LayerEncoding = 'raw' | StreamCodec;

/** `vnd.cnai.` is written `vnd.cncf.` since v0.0.7. */
export function modernType(mediaType: string): string {
  return mediaType.replace(/^application\/vnd\.cnai\./, 'application/vnd.cncf.');
}

/** True for any layer, manifest or config of a model, whatever its kind. */
export function isModelType(mediaType: string): boolean {
  return modernType(mediaType).startsWith(PREFIX);
}

/**
 * Decided by what stands behind the last `v1.`: producers have written kinds and encodings that the specification does
 * not know (`weight.v1.gguf`, `weight.code.v1.raw`), and all but tars are the bare bytes of a file.
 */
export function encodingOf(mediaType: string): LayerEncoding {
  const ending = /^tar(?:\+(.*))?$/.exec(mediaType.slice(mediaType.lastIndexOf('v1.') + 'v1.'.length));
  if (!ending) return 'raw';
  if (ending[1] === undefined) return 'none';
  return /zstd/.test(ending[1]) ? 'zstd' : 'gzip';
}

/** `weight`, `weight.config`, `doc`, `code`, `dataset`, or what else stands there. */
export function kindOf(mediaType: string): string {
  const modern = modernType(mediaType);
  if (!modern.startsWith(PREFIX)) return 'other';
  return modern.slice(PREFIX.length).replace(/\.v1\..*$/, '');
}
