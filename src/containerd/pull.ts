import type { Progress } from '../daemon/api.ts';
import type { Descriptor, Repository } from '../sources/source.ts';
import type { Connection } from './connection.ts';
import { createFetches } from './fetches.ts';
import type { ImageToPull } from './image.ts';
import { ingest } from './ingest.ts';
import { configLabels, indexLabels, type Labels, manifestLabels, snapshotLabels, sourceLabels } from './labels.ts';
import { type Session, withSession } from './session.ts';
import { isStatus } from './status.ts';
import { type Snapshotter, setLabels, type Unpacked, unpackLayer } from './unpack.ts';

export interface PullRequest {
  image: ImageToPull;
  /** Where its blobs come from, and how containerd's labels call that place. */
  from: Repository;
  host: string;
  repository: string;
  namespace: string;
  snapshotter: Snapshotter;
}

export interface PulledLayer extends Unpacked {
  digest: string;
  /** Stored bytes, and those that came from the registry now. */
  size: number;
  fetched: number;
  /** Its snapshot. */
  chainId: string;
}

/**
 * Pulls an image into containerd as its own pull does, but with the question to the snapshotter whether it has a layer
 * already, which `ctr images pull` does not ask. If it fails, or is interrupted, nothing of it stays.
 */
export async function pullImage(
  connection: Connection,
  request: PullRequest,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<PulledLayer[]> {
  return withSession(connection, request.namespace, signal, async (session) => {
    await storeDocuments(session, request);
    const layers = await unpackLayers(session, request, progress);
    const { config, chainIds } = request.image;
    await setLabels(
      session,
      config.descriptor.digest,
      configLabels(request.snapshotter.name, chainIds.at(-1) as string),
    );
    await recordImage(session, request.image);
    return layers;
  });
}

/** Index, manifest and configuration, each with what holds the next one. */
async function storeDocuments(session: Session, request: PullRequest): Promise<void> {
  const { index, manifest, config, layers } = request.image;
  const store = async (kind: string, { descriptor, bytes }: Document, labels: Labels) => {
    const { digest, size } = descriptor;
    async function* rest(offset: number) {
      yield bytes.subarray(offset);
    }
    const origin = { read: async (offset: number) => rest(offset) };
    await ingest(session, { ref: `${kind}-${digest}`, digest, size, origin, taken: () => {} });
    await setLabels(session, digest, { ...labels, ...(await newSourceLabels(session, request, digest)) });
  };
  if (index) await store('index', index, indexLabels(manifest.descriptor.digest));
  await store('manifest', manifest, manifestLabels(config.descriptor.digest, layers));
  await store('config', config, {});
}

interface Document {
  descriptor: Descriptor;
  bytes: Uint8Array;
}

async function newSourceLabels(session: Session, { host, repository }: PullRequest, digest: string): Promise<Labels> {
  const { info } = await session.call<{ info: { labels: Labels } }>('content', 'Info', { digest });
  return sourceLabels(host, repository, info.labels);
}

async function unpackLayers(
  session: Session,
  request: PullRequest,
  progress: (progress: Progress) => void,
): Promise<PulledLayer[]> {
  const { image, from, snapshotter } = request;
  const { reference, layers, diffIds, chainIds, manifest } = image;
  const context = { reference, manifestDigest: manifest.descriptor.digest, layers };
  const pulled: PulledLayer[] = [];
  const fetched = layers.map(() => 0);
  /** Bytes by digest, of what must be here and of what is. */
  const wanted = new Map<string, number>();
  const here = new Map<string, number>();
  const report = () => {
    const total = sum(wanted);
    const done = sum(here);
    const stage = done < total ? 'fetching' : `layer ${pulled.length + 1} of ${layers.length}`;
    progress(total > 0 ? { stage, done, total } : { stage });
  };

  const ending = new AbortController();
  const fetchSession = session.until(ending.signal);
  const fetches = createFetches(layers, async (i) => {
    const { digest, size } = layers[i];
    const taken = (bytes: number) => {
      fetched[i] += bytes;
      here.set(digest, Math.min(size, fetched[i]));
      report();
    };
    await ingest(fetchSession, { ref: `layer-${digest}`, digest, size, origin: from.open(layers[i]), taken });
    await setLabels(session, digest, await newSourceLabels(session, request, digest));
    here.set(digest, size);
  });

  try {
    for (const [i, descriptor] of layers.entries()) {
      report();
      const chainId = chainIds[i];
      const labels = snapshotLabels(context, i, chainId);
      const layer = { descriptor, diffId: diffIds[i], chainId, parent: chainIds[i - 1], labels };
      const unpacked = await unpackLayer(session, snapshotter, layer, async () => {
        if (wanted.size === 0) for (const { digest, size } of layers.slice(i)) wanted.set(digest, size);
        await fetches.fetched(i);
        report();
      });
      pulled.push({ digest: descriptor.digest, size: descriptor.size, fetched: 0, chainId, ...unpacked });
    }
    return pulled.map((layer, i) => ({ ...layer, fetched: fetched[i] }));
  } finally {
    // Those that are left are of no use: a layer failed, or layers above one that was unpacked were lazy.
    ending.abort();
    await fetches.settled();
  }
}

function sum(bytes: ReadonlyMap<string, number>): number {
  return [...bytes.values()].reduce((all, size) => all + size, 0);
}

async function recordImage(session: Session, { reference, target }: ImageToPull): Promise<void> {
  const { mediaType, digest, size } = target;
  const image = { name: reference, target: { mediaType, digest, size } };
  try {
    await session.call('images', 'Create', { image });
  } catch (error) {
    if (!isStatus(error, 'already exists')) throw error;
    // Labels that others gave it stay.
    await session.call('images', 'Update', { image, updateMask: { paths: ['target'] } });
  }
}
