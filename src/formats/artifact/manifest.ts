import { NymphError } from '../../errors.ts';
import { type FileList, type FileNode, type Layer, type ManifestKind, objectList } from '../../image/files.ts';

/**
 * OCI artifacts whose layers are files with a name, as ORAS pushes them and Kubernetes mounts them as image volumes.
 * Annotations: image-spec "Pre-Defined Annotation Keys", oras-go `content/file`.
 */
const TITLE = 'org.opencontainers.image.title';
/** A folder, packed as tar+gzip. */
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

/**
 * The files of such an artifact.
 * @param place where it is: registry and repository
 * @throws NymphError `unsupported` for folders
 */
export function artifactFiles(layers: readonly Layer[], place: string): FileList {
  const { objects, objectAt } = objectList(place);
  const files = layers.map((layer): FileNode => {
    const { annotations = {}, size } = layer;
    const path = annotations[TITLE];
    if (annotations[UNPACK] === 'true')
      throw new NymphError(
        'unsupported',
        `an artifact with a folder that is packed (${path}), which is not served yet`,
        {
          hint: 'Push its files one by one: oras push … FILE FILE',
        },
      );
    const content = { kind: 'file', size, object: objectAt(layer), offset: 0 } as const;
    return { path, mode: 0o644, uid: 0, gid: 0, mtime: 0, mtimeNs: 0, content };
  });
  return { format: 'artifact', objects, files, warnings: [] };
}
