import type { Choice, Progress } from '../daemon/api.ts';
import { NymphError } from '../errors.ts';
import type { ModelDescription } from '../formats/modelpack/description.ts';
import type { ObjectRange } from '../formats/rafs/chunk-info.ts';
import type { BootstrapDescription } from '../formats/rafs/describe.ts';
import { bootstrapLayer } from '../formats/rafs/manifest.ts';
import { TAIL_SIZE } from '../formats/rafs/toc.ts';
import type { FileExtent, PieceChecksum } from '../image/files.ts';
import type { Blob, Image, OciDigest } from '../image/image.ts';
import { FOLDER_BLOB, FOLDER_BOOTSTRAP } from '../sources/folder.ts';
import { type Nearby, withNearby } from '../sources/nearby.ts';
import { openRepository } from '../sources/open.ts';
import { formatReference, parseReference, pinnedDigest } from '../sources/reference.ts';
import { createRegistryNetwork, type NetworkOptions } from '../sources/registry/network.ts';
import type { Descriptor, Manifest, Repository, Source } from '../sources/source.ts';
import { findTrace } from '../sources/trace-artifact.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { chooseImage } from './choose.ts';
import { FILES, type FilesKind, findFiles, readDescription } from './files.ts';
import { LOAD, loadImage } from './load.ts';
import type { LoadInput } from './load-types.ts';
import { STARTUP_FILES } from './startup.ts';
import type { TarLayers, TarLayersOptions } from './tar-layers.ts';
import { unpackedSource } from './unpacked-source.ts';

/** From a reference to a checked image: manifest, platform, bootstrap, tables. Every byte is verified on the way. */
export interface ImageOpener {
  /** The reference in full form. @throws NymphError `usage` */
  canonical(reference: string): string;
  /** The digest of the manifest or index that a reference names, where it does. @throws NymphError `usage` */
  pinned(reference: string): OciDigest | undefined;
  /**
   * Finds the image that a reference means now: one or two small requests.
   * @param nearby is asked for manifest and bootstrap first
   */
  resolve(
    reference: string,
    platform: string | undefined,
    progress: Report,
    signal: AbortSignal,
    nearby?: Nearby,
  ): Promise<FoundImage>;
  /** Where the blobs of a reference come from; no request is made. */
  sources(reference: string): OpenSource;
  /** The place that a reference is in; no request is made. */
  repository(reference: string): Repository;
  close(): Promise<void>;
}

type Report = (progress: Progress) => void;

/** Where the blobs of an image come from. */
export type OpenSource = (
  blob: { digest: OciDigest } & Partial<Pick<Blob, 'location' | 'unpacked' | 'storedSize'>>,
) => Source;

export interface FoundImage {
  /** In full form. */
  reference: string;
  kind: Repository['kind'];
  /** Of the image manifest. */
  digest: OciDigest;
  manifest: Manifest;
  layers: Descriptor[];
  choice?: Choice;
  /** Its layers are files as they stand. */
  files?: FilesKind;
  source: OpenSource;
  /**
   * Reads and checks the bootstrap.
   * @param options as for {@link readTars}
   * @throws NymphError `unsupported` with what the image is, if it is none that can be mounted lazily
   */
  open(progress: Report, signal: AbortSignal, options?: OpenOptions): Promise<OpenedImage>;
}

export type OpenOptions = Partial<Pick<TarLayersOptions, 'strict' | 'layers'>> & {
  /** Kinds and patterns of files: of others nothing is there. */
  subset?: readonly string[];
  /** The configuration of a model is read as well. */
  describe?: boolean;
};

export interface OpenedImage extends Omit<FoundImage, 'open' | 'digest'> {
  image: Image;
  bootstrap: Uint8Array;
  bootstrapDigest: OciDigest;
  /** Of a Nydus image. */
  description?: BootstrapDescription;
  /** Of files as they stand, for each blob: a path; of tars where files lie, and what headers said; checksums; and what is odd. */
  paths?: string[];
  extents?: (FileExtent[] | undefined)[];
  pieces?: (PieceChecksum[] | undefined)[];
  indexes?: (string | undefined)[];
  subset?: readonly string[];
  /** What its configuration says, where that was asked for. */
  model?: ModelDescription;
  /** Whoever opens the image discards it in the end. */
  data?: TarLayers['data'];
  warnings?: string[];
  /** Of a Nydus image: text of what others read first of it, where the registry has that. Never rejects. */
  trace?: Promise<string | undefined>;
  /** Of a hub's repository: its commit. */
  revision?: string;
}

/** Compressed bytes of a bootstrap layer: held in memory while it is read. */
const LAYER_LIMIT = 512 << 20;

const none = Promise.resolve(undefined);

/** @param pool whose threads read bootstraps. @param traces whether registries are asked for traces */
export function createImageOpener(options: NetworkOptions, pool: ThreadPool, traces: boolean): ImageOpener {
  const network = createRegistryNetwork(options);
  // Nothing is remembered of a repository: what is worth it is in the network, and references come without end.
  const repository = (reference: string) => openRepository(parseReference(reference, '/'), { network });

  async function resolve(
    reference: string,
    platform: string | undefined,
    progress: Report,
    signal: AbortSignal,
    nearby?: Nearby,
  ): Promise<FoundImage> {
    progress({ stage: 'resolving' });
    pool.warm(LOAD, STARTUP_FILES);
    const pinned = opener.pinned(reference);
    const from = nearby === undefined ? repository(reference) : withNearby(repository(reference), nearby, pinned);
    const chosen = await chooseImage(from, platform, pinned !== undefined, signal);
    const base = { reference: from.reference, kind: from.kind, ...chosen, source: sourceOf(from) };
    const { manifest, layers } = chosen;
    return {
      ...base,
      digest: manifest.descriptor.digest,
      async open(report, openSignal, { strict = false, layers: unpacked, subset, describe } = {}) {
        if (chosen.files !== undefined) {
          const options = { from, strict, layers: unpacked, subset, progress: report, signal: openSignal };
          const hasConfig = describe === true && (chosen.files === 'modelpack' || chosen.files === 'modelkit');
          const model = hasConfig ? await readDescription(manifest, from, openSignal) : undefined;
          const { request, tars } = await findFiles(chosen.files, manifest, layers, options);
          try {
            return { ...base, ...(await pool.run(FILES, request)), data: tars?.data, subset, model };
          } catch (error) {
            for (const scratch of tars?.data.values() ?? []) await scratch.discard();
            throw error;
          }
        }
        if (subset !== undefined)
          throw new NymphError('unsupported', `${from.reference} is no model, of which a subset could be chosen`, {
            hint: 'Leave out --subset: only what is read of an image is fetched.',
          });
        report({ stage: 'reading bootstrap' });
        // It is waited for, so it takes the connection that is there.
        const reading = bootstrapInput(from, layers, openSignal);
        if (from.kind === 'registry') connectAhead(from, layers, openSignal);
        const trace = traces ? findTrace(from, manifest.descriptor.digest, openSignal).catch(() => undefined) : none;
        const fetchRange = (range: ObjectRange) => readRange(from, range, openSignal);
        const sizes = new Map(layers.map(({ digest, size }) => [digest.slice('sha256:'.length), size]));
        const input = await reading;
        const loaded = await loadImage(pool, input, sizes, fetchRange, openSignal);
        requireVerifiable(loaded.image, from.reference);
        return { ...base, ...loaded, image: withSizes(loaded.image, layers), trace };
      },
    };
  }

  const opener: ImageOpener = {
    canonical: (reference) => formatReference(parseReference(reference, '/')),
    pinned: (reference) => pinnedDigest(parseReference(reference, '/')),
    resolve,
    sources: (reference) => sourceOf(repository(reference)),
    repository,
    close: () => network.close(),
  };
  return opener;
}

/** Connections besides the one that brings the bootstrap. */
const CONNECTIONS_AHEAD = 2;

/**
 * Has connections made to where the data is, while the bootstrap is read: handshakes, a token and a redirect to a storage
 * would fall on the first faults. What fails here is told by those.
 */
function connectAhead(from: Repository, layers: Descriptor[], signal: AbortSignal): void {
  const [largest] = layers.toSorted((a, b) => b.size - a.size);
  if (largest === undefined) return;
  for (let i = 0; i < CONNECTIONS_AHEAD; i++)
    void (async () => {
      for await (const _ of await from.open({ digest: largest.digest }).read(0, 1, signal));
    })().catch(() => {});
}

function sourceOf(from: Repository): OpenSource {
  return ({ digest, location, unpacked = 'none', storedSize = 0 }) => {
    // Without the size: that of a blob from a chunk dictionary is its builder's guess.
    const source = from.open({ digest, ...(location !== undefined && { location }) });
    return unpacked === 'none' ? source : unpackedSource(source, storedSize, unpacked);
  };
}

async function bootstrapInput(from: Repository, layers: Descriptor[], signal: AbortSignal): Promise<LoadInput> {
  if (from.kind === 'registry' || from.kind === 'layout') {
    const layer = bootstrapLayer(layers) as Descriptor;
    return { kind: 'layer', bytes: await from.get(layer, LAYER_LIMIT, signal) };
  }
  const file = layers.find((layer) => layer.mediaType === FOLDER_BOOTSTRAP);
  if (file !== undefined) return { kind: 'bootstrap', bytes: await from.get(file, LAYER_LIMIT, signal) };
  const blobs = layers.filter((layer) => layer.mediaType === FOLDER_BLOB);
  if (blobs.length !== 1)
    throw new NymphError(
      'unsupported',
      `${from.reference} has no \`bootstrap\`, and ${blobs.length} blobs to look in`,
      {
        hint: 'Put the bootstrap beside `blobs/`.',
      },
    );
  const [{ digest, size }] = blobs;
  const blobId = digest.slice('sha256:'.length);
  const length = Math.min(TAIL_SIZE, size);
  const bytes = await readRange(from, { id: blobId, offset: size - length, length }, signal);
  return { kind: 'tail', bytes, blobId, objectSize: size };
}

async function readRange(
  from: Repository,
  { id, offset, length }: ObjectRange,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const piece of await from.open({ digest: `sha256:${id}` }).read(offset, length, signal)) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Registries know the real sizes of blobs; the bootstrap's are the builder's guess. */
function withSizes(image: Image, layers: Descriptor[]): Image {
  const sizes = new Map(layers.map((layer) => [layer.digest, layer.size]));
  return {
    ...image,
    blobs: image.blobs.map((blob) => ({ ...blob, storedSize: sizes.get(blob.digest) ?? blob.storedSize })),
  };
}

function requireVerifiable(image: Image, reference: string): void {
  if (image.verifiable) return;
  throw new NymphError('unsupported', `${reference} has chunks without digests, which cannot be verified`, {
    hint: 'Convert it again with nydus-image 2.x, which writes a digest for each chunk.',
  });
}
