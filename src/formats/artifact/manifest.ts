import type { Layer, LayerPlan, ManifestKind } from '../../image/files.ts';
import type { StreamCodec } from '../../image/image.ts';

/**
 * OCI artifacts whose layers are files with a name, as ORAS pushes them and Kubernetes mounts them as image volumes.
 * Annotations: image-spec "Pre-Defined Annotation Keys", oras-go `content/file`.
 */
const TITLE = 'org.opencontainers.image.title';
/** A folder, packed as a tar whose names begin with the title. */
const UNPACK = 'io.deis.oras.content.unpack';
/** Of images for containers, whose layers are changes to a root file system. */
const CONTAINER_CONFIGS = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];

/** True if every layer has a title, and no configuration says that it is an image for containers. */
export function isFilesArtifact({ configType = '', layers }: ManifestKind): boolean {
  if (layers.length === 0 || CONTAINER_CONFIGS.includes(configType)) return false;
  return layers.every(({ annotations }) => annotations?.[TITLE] !== undefined);
}

/** What the layers of such an artifact are. */
export function artifactPlans(layers: readonly Layer[]): LayerPlan[] {
  return layers.map((layer) => {
    const { annotations = {}, mediaType } = layer;
    const path = annotations[TITLE];
    if (annotations[UNPACK] === 'true')
      return { layer, holds: { kind: 'tar', codec: codecOf(mediaType), folder: trimmed(path) } };
    return { layer, holds: { kind: 'file', node: { path, mode: 0o644, uid: 0, gid: 0, mtime: 0, mtimeNs: 0 } } };
  });
}

/** ORAS packs with gzip, and lets who pushes choose the media type; others have packed otherwise and said so. */
function codecOf(mediaType: string): StreamCodec {
  if (/[+.]zstd$/.test(mediaType)) return 'zstd';
  return /[.]tar$/.test(mediaType) ? 'none' : 'gzip';
}

/** `folder/` is written as well. */
function trimmed(path: string): string {
  return path.replace(/^(?:\.\/+)+|\/+$/g, '');
}
