import type { Layer, LayerPlan, ManifestKind } from '../../image/files.ts';
import { checksumsOf } from './checksums.ts';
import { encodingOf, isModelType, kindOf, MODEL_CONFIG, MODEL_MANIFEST, modernType } from './media-types.ts';
import { fileMetadata } from './metadata.ts';

/** Where a layer's path stands, the newest key first; the last is that of OCI artifacts in general. */
const PATH_KEYS = ['org.cncf.model.filepath', 'org.cnai.model.filepath', 'org.opencontainers.image.title'];
const DEFAULT_MODE = 0o644;

/**
 * True for a ModelPack artifact. Some producers leave out the artifact type, so the config's and the first layer's are
 * looked at, too.
 */
export function isModelPack({ artifactType, configType, layers }: ManifestKind): boolean {
  if (artifactType !== undefined && modernType(artifactType) === MODEL_MANIFEST) return true;
  if (configType !== undefined && modernType(configType) === MODEL_CONFIG) return true;
  return layers.length > 0 && isModelType(layers[0].mediaType);
}

/**
 * What the layers of a ModelPack artifact are: files, byte for byte, or tars of files.
 * @param layers in the order of the manifest, which means nothing but that of two for one path the later counts
 */
export function modelPlans(layers: readonly Layer[]): LayerPlan[] {
  return layers.filter(({ mediaType }) => isModelType(mediaType)).map(planOf);
}

function planOf(layer: Layer): LayerPlan {
  const { annotations = {}, digest, size, mediaType } = layer;
  const kind = kindOf(mediaType);
  const encoding = encodingOf(mediaType);
  const checksums = checksumsOf(annotations, kind);
  // Names and attributes are those of the tar: modctl unpacks it without a look at the annotations.
  if (encoding !== 'raw') return { layer, kind, checksums, holds: { kind: 'tar', codec: encoding } };
  const { name, mode = DEFAULT_MODE, mtime = 0, mtimeNs = 0, type } = fileMetadata(annotations);
  const path = pathOf(annotations) ?? name ?? digest.slice('sha256:'.length);
  const node = { path, mode, uid: 0, gid: 0, mtime, mtimeNs };
  // Of a symlink the layer would hold what it leads to: modctl follows them, and writes a file.
  return { layer, kind, checksums, holds: { kind: type === 'directory' && size === 0 ? 'directory' : 'file', node } };
}

/** The path that annotations give to a layer that is a file. */
export function pathOf(annotations: Record<string, string>): string | undefined {
  return PATH_KEYS.map((key) => annotations[key]).find((value) => value !== undefined);
}
