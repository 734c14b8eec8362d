import { LABEL_IMAGE, LABEL_LAZY, type Snapshotter } from './snapshotter.ts';

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
      else layers.push({ name, ...laziness(labels[LABEL_LAZY]), image: labels[LABEL_IMAGE] });
    }
  return { active, views, layers };
}

function laziness(label: string | undefined): Pick<LayerStatus, 'lazy' | 'reason'> {
  if (label === 'true') return { lazy: true };
  if (label === undefined) return { lazy: false, reason: 'its puller did not ask' };
  return { lazy: false, reason: label.replace(/^false: /, '') };
}
