import { NymphError } from '../errors.ts';
import { LABEL_IMAGE, LABEL_LAZY, LABEL_PIECE, LABEL_REMAPPED, LABEL_TARGET, type Labels } from './snapshotter.ts';

/** Bytes of a key and its value together, as containerd limits them. */
const MOST_LABEL = 4096;
const ONE = 'labels.';
/** Nobody else may set them: an image could name another one in its annotations. */
const OURS: readonly string[] = [LABEL_LAZY, LABEL_IMAGE, LABEL_PIECE, LABEL_REMAPPED];

/** Labels of a request without those that are ours to set. @throws NymphError `usage` for one that is too long */
export function requestLabels(given: Labels): Labels {
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(given)) {
    if (Buffer.byteLength(key) + Buffer.byteLength(value) > MOST_LABEL)
      throw new NymphError('usage', `the label ${key.slice(0, 64)} and its value are longer than ${MOST_LABEL} bytes`);
    if (!OURS.includes(key)) labels[key] = value;
  }
  return labels;
}

/**
 * Labels of a snapshot after an update.
 * @param paths of the update's mask: `labels`, `labels.<key>`; none is the same as `labels`
 * @param lazy keeps the label by which containerd finds a layer that is served lazily
 * @throws NymphError `usage` for other paths
 */
export function changedLabels(before: Labels, given: Labels, paths: readonly string[], lazy: boolean): Labels {
  const allowed = requestLabels(given);
  let after: Record<string, string> = { ...before };
  for (const path of paths.length > 0 ? paths : ['labels']) {
    if (path === 'labels') after = { ...allowed };
    else if (!path.startsWith(ONE))
      throw new NymphError('usage', `${path} of a snapshot cannot be changed; labels can`);
    else {
      const key = path.slice(ONE.length);
      // `labels.constructor` names no label that is there.
      if (Object.hasOwn(allowed, key) && allowed[key] !== '') after[key] = allowed[key];
      else delete after[key];
    }
  }
  for (const key of lazy ? [...OURS, LABEL_TARGET] : OURS) if (key in before) after[key] = before[key];
  return after;
}
