import type { OciDigest } from '../image/image.ts';
import { isDigest } from '../sources/digest.ts';
import { formatReference, parseReference } from '../sources/reference.ts';
import type { Labels } from './snapshotter.ts';

/**
 * Where the image of a layer comes from: a reference that names its manifest by digest, in canonical form. Two layers of
 * one image have the same one.
 */
export type Origin = string;

/** Set by containerd for a puller that asks for it: the reference, and the digest of the platform's manifest. */
const LABEL_REFERENCE = 'containerd.io/snapshot/cri.image-ref';
const LABEL_MANIFEST = 'containerd.io/snapshot/cri.manifest-digest';

/** What a puller says of the image that a layer belongs to; `undefined` if it says nothing, or nothing that can be used. */
export function originOf(labels: Labels): Origin | undefined {
  const reference = labels[LABEL_REFERENCE];
  const digest = labels[LABEL_MANIFEST];
  if (reference === undefined || !isDigest(digest)) return undefined;
  return pinned(reference, digest);
}

/** @param reference an image in a registry, as containerd names it */
export function pinned(reference: string, digest: OciDigest): Origin | undefined {
  try {
    const parsed = parseReference(reference, '/');
    return parsed.kind === 'registry' ? formatReference({ ...parsed, digest }) : undefined;
  } catch {
    // A name that is none of ours: a client may call its images what it likes.
    return undefined;
  }
}

/** The tag by which an image was pulled; `undefined` if it was by a digest. */
export function unpinned(origin: Origin): string | undefined {
  const reference = origin.slice(0, origin.indexOf('@'));
  const parsed = parseReference(origin, '/');
  return parsed.kind === 'registry' && parsed.tag !== undefined ? reference : undefined;
}

/** The digest of an origin. */
export function digestOf(origin: Origin): OciDigest {
  return origin.slice(origin.indexOf('@') + 1) as OciDigest;
}
