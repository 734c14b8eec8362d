import type { OciDigest } from '../image/image.ts';
import { OCI_MANIFEST } from './descriptor.ts';
import { sha256Digest } from './digest.ts';
import type { Descriptor, Manifest, Repository } from './source.ts';
import { bytesToPut, type Target } from './target.ts';

/**
 * Traces in a registry: a manifest of no content that refers to the image (image-spec "Guidelines for Artifact Usage"),
 * with the trace in an annotation. Registries list annotations with who refers to a manifest, so one request finds it.
 */
export const TRACE_ARTIFACT = 'application/vnd.nymph.trace.v1';
const TRACE = 'dev.nymph.trace';
const CREATED = 'org.opencontainers.image.created';
const EMPTY = Buffer.from('{}');
const EMPTY_DESCRIPTOR = {
  mediaType: 'application/vnd.oci.empty.v1+json',
  digest: sha256Digest(EMPTY),
  size: EMPTY.length,
};

/** The newest trace that refers to an image; undefined without, and where the place keeps none. */
export async function findTrace(from: Repository, image: OciDigest, signal: AbortSignal): Promise<string | undefined> {
  const referrers = (await from.referrers?.(image, signal)) ?? [];
  const traces = referrers.filter(({ artifactType }) => artifactType === TRACE_ARTIFACT);
  const created = ({ annotations }: Descriptor) => annotations?.[CREATED] ?? '';
  const [newest] = traces.toSorted((a, b) => (created(a) < created(b) ? 1 : -1));
  return newest?.annotations?.[TRACE];
}

/** @returns digest of what was put @throws NymphError as `Target.putManifest` */
export async function putTrace(
  to: Target,
  { mediaType, digest, size }: Descriptor,
  trace: string,
  signal: AbortSignal,
): Promise<OciDigest> {
  const annotations = { [CREATED]: new Date().toISOString(), [TRACE]: trace };
  const content = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType: TRACE_ARTIFACT,
    config: EMPTY_DESCRIPTOR,
    layers: [EMPTY_DESCRIPTOR],
    subject: { mediaType, digest, size },
    annotations,
  };
  const bytes = Buffer.from(JSON.stringify(content));
  const descriptor = {
    mediaType: OCI_MANIFEST,
    digest: sha256Digest(bytes),
    size: bytes.length,
    artifactType: TRACE_ARTIFACT,
    annotations,
  };
  const manifest: Manifest = { descriptor, bytes };
  await to.put(bytesToPut(EMPTY_DESCRIPTOR, EMPTY), signal);
  await to.putManifest(manifest, { subject: digest }, signal);
  return descriptor.digest;
}
