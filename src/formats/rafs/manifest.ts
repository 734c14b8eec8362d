import { NymphError } from '../../errors.ts';

/**
 * What an image manifest says about RAFS: which layer is the bootstrap. Annotations are those of nydusify and the
 * snapshotter's converter (nydus "image service" conventions).
 */

/** A descriptor as far as it matters here. */
export interface Layer {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
}

const PREFIX = 'containerd.io/snapshot/';
const BOOTSTRAP = `${PREFIX}nydus-bootstrap`;
const FS_VERSION = `${PREFIX}nydus-fs-version`;
/** RAFS v5 and v6. */
const FS_VERSIONS: readonly string[] = ['5', '6'];
const ENCRYPTED = `${PREFIX}nydus-encrypted-blob`;
const REFERENCE = `${PREFIX}nydus-ref`;

/**
 * The bootstrap layer of a Nydus image.
 * @throws NymphError `unsupported`, with a sentence that says what the image is instead.
 */
export function bootstrapLayer(layers: readonly Layer[]): Layer {
  const layer = layers.findLast((candidate) => candidate.annotations?.[BOOTSTRAP] === 'true');
  if (layer === undefined) throw notNydus(layers);
  const version = layer.annotations?.[FS_VERSION];
  if (version !== undefined && !FS_VERSIONS.includes(version))
    throw new NymphError('unsupported', `a Nydus image in format version "${version}", which is not served`, {
      hint: 'Convert it with nydusify 2.x and `--fs-version 6`.',
    });
  if (layers.some((candidate) => candidate.annotations?.[ENCRYPTED] === 'true'))
    throw new NymphError('unsupported', 'an encrypted Nydus image, which is not served yet');
  if (layers.some((candidate) => candidate.annotations?.[REFERENCE] !== undefined))
    throw new NymphError('unsupported', 'a Nydus image that refers to gzip layers (ZRAN), which is not served yet', {
      hint: 'Convert it again without `--oci-ref`.',
    });
  return layer;
}

/** Whether a manifest with these layers is that of a Nydus image, in whatever version. */
export function isNydusImage(layers: readonly Layer[]): boolean {
  return layers.some((layer) => layer.annotations?.[BOOTSTRAP] === 'true');
}

function notNydus(layers: readonly Layer[]): NymphError {
  if (layers.some((layer) => layer.mediaType.startsWith('application/vnd.cncf.model.')))
    return new NymphError('unsupported', 'a ModelPack artifact, which is not served yet');
  return new NymphError('unsupported', 'an ordinary OCI image (no Nydus bootstrap layer)', {
    hint: 'Convert it first: nymph convert IMAGE IMAGE-nydus',
  });
}
