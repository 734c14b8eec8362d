import { NymphError } from '../errors.ts';
import type { Repository } from '../sources/source.ts';
import type { Connection } from './connection.ts';
import { readImage } from './image.ts';
import { ingest } from './ingest.ts';
import { type Session, withSession } from './session.ts';

/**
 * Has containerd unpack one layer of an ordinary image while it waits for a snapshot on top: fetches it into the content
 * store, and applies it.
 * @param from the image, by the digest of its manifest
 * @param mounts by which containerd sees the layer to come
 * @throws NymphError `corrupt` if what was unpacked is not what the image says
 */
export async function unpackOnto(
  connection: Connection,
  namespace: string,
  from: Repository,
  layerDigest: string,
  mounts: object[],
  signal: AbortSignal,
): Promise<void> {
  const { layers, diffIds } = await readImage(from, undefined, { lazily: false, pinned: true }, signal);
  const index = layers.findIndex(({ digest }) => digest === layerDigest);
  if (index < 0) throw new NymphError('not-found', `${from.reference} has no layer ${layerDigest}`);
  const { mediaType, digest, size } = layers[index];
  const work = async (session: Session) => {
    await ingest(session, { ref: `layer-${digest}`, digest, size, origin: from.open(layers[index]), taken: () => {} });
    const diff = { mediaType, digest, size };
    const { applied } = await session.call<{ applied: { digest: string } }>('diff', 'Apply', { diff, mounts });
    if (applied.digest !== diffIds[index])
      throw new NymphError('corrupt', `layer ${digest} unpacks to ${applied.digest}; the image says ${diffIds[index]}`);
  };
  await withSession(connection, namespace, signal, work, { collectLater: true });
}
