import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { isIndexType, MANIFEST_LIMIT, OCI_MANIFEST, parseIndex, parseJsonObject } from './descriptor.ts';
import { digestHex, isDigest } from './digest.ts';
import { openFileSource, readSmallFile } from './file-source.ts';
import { formatReference, type LayoutReference } from './reference.ts';
import type { Descriptor, Manifest, Repository } from './source.ts';

export const REF_NAME = 'org.opencontainers.image.ref.name';
/** Manifests that are looked through for one that refers to another. */
const MAX_LISTED = 1000;

/** An OCI image layout (image-spec "Image Layout"). A reference without a tag means the only manifest. */
export function openLayoutRepository(reference: LayoutReference): Repository {
  const { path } = reference;

  const blobPath = (digest: OciDigest) => {
    if (!isDigest(digest)) throw new NymphError('internal', `not a digest: ${String(digest).slice(0, 80)}`);
    return join(path, 'blobs', 'sha256', digestHex(digest));
  };
  const nameOf = (digest: OciDigest) => `blob ${digest} in ${path}`;

  const manifest = async (
    wanted: Pick<Descriptor, 'digest'> & Partial<Descriptor>,
    signal: AbortSignal,
  ): Promise<Manifest> => {
    const { digest, size } = wanted;
    const what = `manifest ${digest} in ${path}`;
    const bytes = await readSmallFile(blobPath(digest), what, { digest, size }, MANIFEST_LIMIT, signal);
    const { mediaType } = parseJsonObject(bytes, what);
    const named = typeof mediaType === 'string' ? mediaType : wanted.mediaType;
    return { descriptor: { ...wanted, mediaType: named || OCI_MANIFEST, digest, size: bytes.length }, bytes };
  };

  const readIndex = async (signal: AbortSignal): Promise<Descriptor[]> => {
    const what = `OCI layout ${path} (index.json)`;
    return parseIndex(await readSmallFile(join(path, 'index.json'), what, {}, MANIFEST_LIMIT, signal), what);
  };

  return {
    kind: 'layout',
    reference: formatReference(reference),
    async resolve(signal) {
      if (reference.digest) return manifest({ digest: reference.digest }, signal);
      return manifest(choose(await readIndex(signal), reference), signal);
    },
    manifest: (digest, signal) => manifest({ digest }, signal),
    async referrers(digest, signal) {
      const found: Descriptor[] = [];
      for (const descriptor of (await readIndex(signal)).slice(0, MAX_LISTED)) {
        if (isIndexType(descriptor.mediaType)) continue;
        const { bytes } = await manifest(descriptor, signal);
        const { subject } = parseJsonObject(bytes, `manifest ${descriptor.digest} in ${path}`);
        if ((subject as { digest?: unknown } | undefined)?.digest === digest) found.push(descriptor);
      }
      return found;
    },
    get: async ({ digest, size }, limit, signal) =>
      readSmallFile(blobPath(digest), nameOf(digest), { digest, size }, limit, signal),
    open: ({ digest, size }) => openFileSource('layout', blobPath(digest), nameOf(digest), size),
    close: async () => {},
  };
}

function choose(manifests: readonly Descriptor[], { path, tag }: LayoutReference): Descriptor {
  const tags = manifests.map((descriptor) => descriptor.annotations?.[REF_NAME]).filter((name) => name !== undefined);
  const hint = tags.length > 0 ? `It has: ${tags.slice(0, 20).join(', ')}. Write \`oci:PATH:TAG\`.` : undefined;
  if (tag !== undefined) {
    const found = manifests.find((descriptor) => descriptor.annotations?.[REF_NAME] === tag);
    if (found) return found;
    throw new NymphError('not-found', `the OCI layout ${path} has no tag ${JSON.stringify(tag)}`, { hint });
  }
  if (manifests.length === 1) return manifests[0];
  if (manifests.length === 0) throw new NymphError('not-found', `the OCI layout ${path} is empty`);
  throw new NymphError('usage', `the OCI layout ${path} has ${manifests.length} manifests and no tag was named`, {
    hint,
  });
}
