import type { Layer, LayerPlan, ManifestKind } from '../../image/files.ts';
import { pathOf } from '../modelpack/manifest.ts';
import { encodingOf } from '../modelpack/media-types.ts';

/**
 * ModelKits, as KitOps packs them (kitops `pkg/lib/constants`): `application/vnd.kitops.modelkit.KIND.v1.tar[+CODEC]`,
 * KIND one of `model`, `modelpart`, `dataset`, `code`, `docs`. Tars without compression by default.
 */
const PREFIX = 'application/vnd.kitops.modelkit.';
const CONFIG = `${PREFIX}config.v1+json`;
/** In the words of ModelPack. `model` is a folder with all that belongs to it, so its files have to say what they are for. */
const KINDS: Record<string, string | undefined> = { dataset: 'dataset', code: 'code', docs: 'doc' };

export function isModelKit({ configType, layers }: ManifestKind): boolean {
  return configType === CONFIG || (layers.length > 0 && layers[0].mediaType.startsWith(PREFIX));
}

/** What the layers of a ModelKit are: tars, or files where they have a name. */
export function kitPlans(layers: readonly Layer[]): LayerPlan[] {
  return layers
    .filter(({ mediaType }) => mediaType.startsWith(PREFIX))
    .map((layer) => {
      const { annotations = {}, digest, mediaType } = layer;
      const encoding = encodingOf(mediaType);
      const kind = KINDS[mediaType.slice(PREFIX.length).split('.')[0]];
      if (encoding !== 'raw') return { layer, kind, holds: { kind: 'tar', codec: encoding } };
      const path = pathOf(annotations) ?? digest.slice('sha256:'.length);
      return {
        layer,
        kind,
        holds: { kind: 'file', node: { path, mode: 0o644, uid: 0, gid: 0, mtime: 0, mtimeNs: 0 } },
      };
    });
}
