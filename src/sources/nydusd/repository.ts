import { NymphError } from '../../errors.ts';
import type { OciDigest } from '../../image/image.ts';
import { OCI_MANIFEST } from '../descriptor.ts';
import { sha256Digest } from '../digest.ts';
import { readDigested } from '../file-source.ts';
import { BOOTSTRAP_LIMIT, FOLDER_BOOTSTRAP } from '../folder.ts';
import { formatReference, type NydusdReference } from '../reference.ts';
import type { RegistryNetwork } from '../registry/network.ts';
import type { Manifest, Repository, Source } from '../source.ts';
import { type OpenBlob, openBackend } from './blobs.ts';
import type { NydusdConfig } from './config.ts';
import { type ConfigFile, followConfig } from './config-file.ts';

/**
 * An image whose blobs are where a configuration of nydusd says. Its bootstrap is a file of the user's, taken as it is,
 * with a manifest that is made up from it; or it comes with an image that has nothing but its bootstrap in its registry.
 * @param image opens that image
 */
export function openNydusdRepository(
  reference: NydusdReference,
  network: RegistryNetwork,
  image: (inner: Exclude<NydusdReference['image'], { kind: 'bootstrap' }>) => Repository,
): Repository {
  const config = followConfig(reference.config, network.log);
  let place: { config: NydusdConfig; open: OpenBlob } | undefined;
  /** What is learnt of a backend, its tokens and its clock, serves all blobs. */
  const blobsOf = (now: NydusdConfig): OpenBlob => {
    if (place?.config !== now) place = { config: now, open: openBackend(now.backend, network, reference.config) };
    return place.open;
  };
  const open: Repository['open'] = ({ digest, size }) => openFollowing(config, blobsOf, digest, size);
  const name = formatReference(reference);
  const inner = reference.image;
  if (inner.kind !== 'bootstrap') {
    const from = image(inner);
    return {
      ...from,
      reference: name,
      open,
      resolve: async (signal) => {
        // What is wrong with it is said now, not to the first reader.
        await config.current();
        return from.resolve(signal);
      },
    };
  }

  const bootstrap = (expected: { digest?: OciDigest; size?: number }, limit: number, signal: AbortSignal) =>
    readDigested(inner.path, `bootstrap ${inner.path}`, expected, limit, signal);

  const resolve = async (signal: AbortSignal): Promise<Manifest> => {
    await config.current();
    const { bytes: file, digest } = await bootstrap({}, BOOTSTRAP_LIMIT, signal);
    const layers = [{ mediaType: FOLDER_BOOTSTRAP, digest, size: file.length }];
    const artifactType = 'application/vnd.nymph.rafs.bootstrap.file';
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType, layers }));
    return { descriptor: { mediaType: OCI_MANIFEST, digest: sha256Digest(bytes), size: bytes.length }, bytes };
  };

  return {
    kind: 'nydusd',
    reference: name,
    resolve,
    async manifest(digest, signal) {
      const manifest = await resolve(signal);
      if (manifest.descriptor.digest === digest) return manifest;
      throw new NymphError('not-found', `${name} has no manifest ${digest}: the bootstrap has changed`);
    },
    get: async ({ digest, size }, limit, signal) => (await bootstrap({ digest, size }, limit, signal)).bytes,
    open,
    close: async () => {},
  };
}

/** A blob that is read as the configuration says now. */
function openFollowing(
  file: ConfigFile,
  blobsOf: (config: NydusdConfig) => OpenBlob,
  digest: OciDigest,
  size: number | undefined,
): Source {
  let known: { config: NydusdConfig; source: Source } | undefined;
  const senders = new WeakMap<AsyncIterable<Uint8Array>, Source>();

  const sourceOf = (config: NydusdConfig): Source => {
    if (known?.config !== config) known = { config, source: blobsOf(config)(digest, size) };
    return known.source;
  };

  return {
    get name() {
      return known?.source.name ?? 'nydusd';
    },
    get amplify() {
      return file.known?.amplify;
    },
    ...(size === undefined ? {} : { size }),
    async read(offset, length, signal) {
      const config = await file.current();
      const read = async (source: Source) => {
        const stream = await source.read(offset, length, signal);
        senders.set(stream, source);
        return stream;
      };
      try {
        return await read(sourceOf(config));
      } catch (error) {
        if (!(error instanceof NymphError) || error.code !== 'denied') throw error;
        const now = await file.refreshed();
        if (now === config) throw error;
        return read(sourceOf(now));
      }
    },
    distrust: (stream) => senders.get(stream)?.distrust?.(stream),
  };
}
