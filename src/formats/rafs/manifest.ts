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
const ENCRYPTION_KEYS = 'org.opencontainers.image.enc.keys.';

/**
 * The bootstrap layer of a Nydus image.
 * @throws NymphError `unsupported`, with a sentence that says what the image is instead.
 */
export function bootstrapLayer(layers: readonly Layer[]): Layer {
  if (layers.some((candidate) => isEncrypted(candidate)))
    throw new NymphError('unsupported', 'an image with layers that are encrypted for certain recipients (ocicrypt)', {
      hint: 'Decrypt it first, with a tool that has the key: `ctr-enc images decrypt`, or `skopeo copy --decryption-key`.',
    });
  const layer = layers.findLast((candidate) => candidate.annotations?.[BOOTSTRAP] === 'true');
  if (layer === undefined) throw notNydus();
  const version = layer.annotations?.[FS_VERSION];
  if (version !== undefined && !FS_VERSIONS.includes(version))
    throw new NymphError('unsupported', `a Nydus image in ${versionName(version)}, which is not served`, {
      hint: 'Convert it with nydusify 2.x and `--fs-version 6`.',
    });
  return layer;
}

/** Nydus v3 has "7": another format, under the same media types. */
function versionName(version: string): string {
  return version === '7' ? 'the format of Nydus v3' : `format version "${version}"`;
}

/** Whether a manifest with these layers is that of a Nydus image, in whatever version. */
export function isNydusImage(layers: readonly Layer[]): boolean {
  return layers.some((layer) => layer.annotations?.[BOOTSTRAP] === 'true');
}

/**
 * Encrypted as a whole, with keys wrapped for recipients. `nydus-image -E` encrypts chunks; their key is in the
 * bootstrap, and such images are safe only where this layer is encrypted so, too.
 */
function isEncrypted({ mediaType, annotations = {} }: Layer): boolean {
  return mediaType.endsWith('+encrypted') || Object.keys(annotations).some((key) => key.startsWith(ENCRYPTION_KEYS));
}

function notNydus(): NymphError {
  return new NymphError('unsupported', 'an ordinary OCI image (no Nydus bootstrap layer)', {
    hint: 'Convert it first: nymph convert IMAGE IMAGE-nydus',
  });
}
