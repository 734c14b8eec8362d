import { LABEL_IMAGE, LABEL_LAZY, type Snapshotter } from './snapshotter.ts';

/** Set by containerd's CRI and by nerdctl on the layers that they pull (containerd, `pkg/snapshotters/annotations.go`). */
const LABEL_PULLED_FOR = 'containerd.io/snapshot/cri.image-ref';

export interface SnapshotsStatus {
  /** Of containers, and of layers that are being unpacked. */
  active: number;
  views: number;
  layers: LayerStatus[];
}

export interface LayerStatus {
  name: string;
  lazy: boolean;
  /** Why it is not. */
  reason?: string;
  /** Of the uppermost layer of a lazy image. */
  image?: string;
  /** Of any layer: the reference of the image for which it was made, where its puller said so. */
  pulledFor?: string;
}

/** What is here for containerd, and for each layer whether it is served lazily, and if not, why. */
export async function summary(snapshotter: Snapshotter): Promise<SnapshotsStatus> {
  const layers: LayerStatus[] = [];
  let active = 0;
  let views = 0;
  for await (const infos of snapshotter.list([]))
    for (const { name, kind, labels } of infos) {
      if (kind === 'active') active++;
      else if (kind === 'view') views++;
      else {
        const { [LABEL_IMAGE]: image, [LABEL_PULLED_FOR]: pulledFor } = labels;
        layers.push({ name, ...laziness(labels[LABEL_LAZY]), image, ...(pulledFor !== undefined && { pulledFor }) });
      }
    }
  return { active, views, layers };
}

function laziness(label: string | undefined): Pick<LayerStatus, 'lazy' | 'reason'> {
  if (label === 'true') return { lazy: true };
  if (label === undefined) return { lazy: false, reason: 'its puller did not ask' };
  return { lazy: false, reason: label.replace(/^false: /, '') };
}
