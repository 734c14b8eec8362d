import { NymphError } from '../../errors.ts';
import { type FileList, type FileNode, type Layer, type ManifestKind, objectList } from '../../image/files.ts';
import { encodingOf, isModelType, MODEL_CONFIG, MODEL_MANIFEST, modernType } from './media-types.ts';
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
 * The files of a ModelPack artifact whose layers are raw: each blob is a file, byte for byte.
 * @param layers in the order of the manifest, which means nothing but that of two for one path the later counts
 * @param place where the artifact is: registry and repository
 * @throws NymphError `unsupported` for layers that are tars
 */
export function modelFiles(layers: readonly Layer[], place: string): FileList {
  const { objects, objectAt } = objectList(place);
  const files: FileNode[] = [];
  for (const layer of layers) {
    if (!isModelType(layer.mediaType)) continue;
    if (encodingOf(layer.mediaType) !== 'raw')
      throw new NymphError(
        'unsupported',
        `a model whose layers are tars (${layer.mediaType}), which are not served yet`,
        {
          hint: 'Build it again with modctl 0.1 or later, whose layers are raw.',
        },
      );
    files.push(fileOf(layer, objectAt(layer)));
  }
  return { format: 'modelpack', objects, files, warnings: [] };
}

function fileOf(layer: Layer, object: number): FileNode {
  const { annotations = {}, digest, size } = layer;
  const { name, mode = DEFAULT_MODE, mtime = 0, mtimeNs = 0, type } = fileMetadata(annotations);
  const path = PATH_KEYS.map((key) => annotations[key]).find((value) => value !== undefined) ?? name;
  const base = { path: path ?? digest.slice('sha256:'.length), mode, uid: 0, gid: 0, mtime, mtimeNs };
  if (type === 'directory' && size === 0) return { ...base, content: { kind: 'directory' } };
  // Of a symlink the layer would hold what it leads to: modctl follows them, and writes a file.
  return { ...base, content: { kind: 'file', size, object, offset: 0 } };
}
