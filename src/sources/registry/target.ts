import { NymphError } from '../../errors.ts';
import type { OciDigest } from '../../image/image.ts';
import { MANIFEST_LIMIT, OCI_INDEX, parseJsonObject } from '../descriptor.ts';
import { sha256Digest } from '../digest.ts';
import { discard, type HttpResponse } from '../http/request.ts';
import { formatReference, type RegistryReference } from '../reference.ts';
import { retry, SMALL_OBJECT_RETRY } from '../retry.ts';
import type { Manifest } from '../source.ts';
import { referrersTag, type Target } from '../target.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { REGISTRY_ERRORS } from './errors.ts';
import { ask, type Question } from './exchange.ts';
import type { RegistryNetwork } from './network.ts';
import { openRegistryRepository } from './repository.ts';
import { type AskToPush, uploadBlob } from './upload.ts';

/** Committing a large blob may take a registry long: some copy it into their storage first. */
const COMMIT_TIMEOUT = 10 * 60_000;

/** A repository of an OCI registry to push to (distribution-spec 1.1, "Push"). Mirrors are not asked. */
export function openRegistryTarget(reference: RegistryReference, network: RegistryNetwork): Target {
  const { host, repository } = reference;

  const upstream = async (): Promise<RegistryEndpoint> => {
    const endpoint = (await network.endpoints(host)).find((candidate) => candidate.upstream);
    if (endpoint) return { ...endpoint, answerTimeout: COMMIT_TIMEOUT };
    throw new NymphError('config', `the configuration names no place to push to for ${host}`);
  };

  const push: AskToPush = async (question, signal) => {
    const endpoint = await upstream();
    const full: Question = { headers: {}, ...question, repository, access: 'push' };
    const { response } = await ask(network, endpoint, full, signal);
    return { response, host: endpoint.url.host, base: endpoint.url };
  };

  const blobExists = async (digest: OciDigest, signal: AbortSignal): Promise<boolean> => {
    const what = `blob ${digest}`;
    const { response, host: asked } = await push({ method: 'HEAD', path: `blobs/${digest}`, what }, signal);
    return isThere(response, what, asked);
  };

  const putOnce = async (
    { bytes, descriptor }: Manifest,
    name: string,
    signal: AbortSignal,
  ): Promise<{ subjectKnown: boolean }> => {
    const what = `the receipt of manifest ${descriptor.digest} as ${name}`;
    const headers = { 'content-type': descriptor.mediaType, 'content-length': String(bytes.length) };
    const question = { method: 'PUT', path: `manifests/${name}`, headers, body: () => bytes, what } as const;
    const { response, host: asked } = await push(question, signal);
    if (response.status !== 201) throw await REGISTRY_ERRORS.status(response, what, asked);
    await discard(response);
    return { subjectKnown: response.header('oci-subject') !== undefined };
  };

  /** For registries without the referrers API: an index under a tag that everybody keeps up to date. */
  const addReferrer = async (subject: OciDigest, manifest: Manifest, signal: AbortSignal): Promise<void> => {
    const tag = referrersTag(subject);
    const known = await openRegistryRepository({ kind: 'registry', host, repository, tag }, network)
      .resolve(signal)
      .catch((error: unknown) => {
        if (error instanceof NymphError && error.code === 'not-found') return undefined;
        throw error;
      });
    const index = known ? parseJsonObject(known.bytes, tag) : { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] };
    const others = Array.isArray(index.manifests) ? (index.manifests as { digest?: unknown }[]) : [];
    if (others.some(({ digest }) => digest === manifest.descriptor.digest)) return;
    const bytes = Buffer.from(JSON.stringify({ ...index, manifests: [...others, manifest.descriptor] }));
    if (bytes.length > MANIFEST_LIMIT)
      throw new NymphError('unsupported', `${host}/${repository}:${tag} has too many referrers for one index`);
    const descriptor = { mediaType: OCI_INDEX, digest: sha256Digest(bytes), size: bytes.length };
    await putOnce({ descriptor, bytes }, tag, signal);
  };

  return {
    kind: 'registry',
    reference: formatReference(reference),
    async put(blob, signal) {
      if (await retry(SMALL_OBJECT_RETRY, signal, () => blobExists(blob.digest, signal))) return 'present';
      return uploadBlob(push, blob, signal);
    },
    async putManifest(manifest, { tag, subject }, signal) {
      const put = (name: string) => retry(SMALL_OBJECT_RETRY, signal, () => putOnce(manifest, name, signal));
      const { subjectKnown } = await put(tag ?? manifest.descriptor.digest);
      if (subject !== undefined && !subjectKnown)
        await retry(SMALL_OBJECT_RETRY, signal, () => addReferrer(subject, manifest, signal));
    },
    close: async () => {},
  };
}

async function isThere(response: HttpResponse, what: string, host: string): Promise<boolean> {
  if (response.status === 200) {
    await discard(response);
    return true;
  }
  const error = await REGISTRY_ERRORS.status(response, what, host);
  if (error.code === 'not-found') return false;
  throw error;
}
