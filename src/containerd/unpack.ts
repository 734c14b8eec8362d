import { randomBytes } from 'node:crypto';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { LABEL_LAZY } from '../snapshotter/snapshotter.ts';
import { pause } from '../sources/retry.ts';
import type { Descriptor } from '../sources/source.ts';
import { type Labels, UNCOMPRESSED } from './labels.ts';
import type { Session } from './session.ts';
import { isStatus } from './status.ts';

/** A layer that is to become a snapshot. */
export interface LayerToUnpack {
  descriptor: Descriptor;
  diffId: OciDigest;
  /** Name of its snapshot, and of the one below; none below the lowest. */
  chainId: OciDigest;
  parent: OciDigest | undefined;
  labels: Labels;
}

/** `lazy`: nothing of it was unpacked here. `present`: somebody had made its snapshot before. */
export interface Unpacked {
  state: 'lazy' | 'present' | 'unpacked';
  /** Why it is not lazy, where the snapshotter says so. */
  reason?: string;
}

export interface Snapshotter {
  name: string;
  /** It is a proxy plugin: no other says that a layer is there already which nobody has unpacked. */
  remote: boolean;
}

/** `snapshots.proto`, as far as it matters here. */
interface Prepared {
  mounts: object[];
}

interface Stat {
  info: { labels: Labels };
}

/** How often a snapshot is asked for that is said to exist and is not found: as containerd does. */
const ATTEMPTS = 3;
/** A snapshotter that was started a moment ago is reached within 3 s; ms. */
const CONNECT_LIMIT = 10_000;
const CONNECT_PAUSE = 250;

/**
 * Makes the snapshot of a layer as containerd's own pull does: the snapshotter is asked first, with the label of the
 * chain id; if it does not have the layer, containerd unpacks it.
 * @param fetch called if it must be unpacked: resolves when its blob is in the content store
 */
export async function unpackLayer(
  session: Session,
  snapshotter: Snapshotter,
  layer: LayerToUnpack,
  fetch: () => Promise<void>,
): Promise<Unpacked> {
  // First held, then looked for: what is found cannot be collected any more.
  await session.holdSnapshot(snapshotter.name, layer.chainId);
  const before = await labelsOf(session, snapshotter, layer.chainId);
  if (before !== undefined) return found(before, false);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const key = `extract-${uniquePart()} ${layer.chainId}`;
    const mounts = await prepare(session, snapshotter, key, layer);
    if (mounts !== undefined) return extract(session, snapshotter, key, mounts, layer, fetch);
    const labels = await labelsOf(session, snapshotter, layer.chainId);
    if (labels !== undefined) return found(labels, snapshotter.remote);
  }
  throw new NymphError('daemon', `the snapshotter ${snapshotter.name} says that it has ${layer.chainId}, and has not`);
}

/** @param lazy whether it is, where nymph does not say */
function found(labels: Labels, lazy: boolean): Unpacked {
  const said = labels[LABEL_LAZY];
  if (said === undefined ? lazy : said === 'true') return { state: 'lazy' };
  return { state: 'present', ...reasonOf(labels) };
}

/** Why a layer is not lazy. */
function reasonOf({ [LABEL_LAZY]: said = '' }: Labels): { reason?: string } {
  return said.startsWith('false: ') ? { reason: said.slice('false: '.length) } : {};
}

/** @returns `undefined` if the layer is there already */
async function prepare(
  session: Session,
  snapshotter: Snapshotter,
  key: string,
  { parent, labels }: LayerToUnpack,
): Promise<object[] | undefined> {
  try {
    return (await ask<Prepared>(session, snapshotter, 'Prepare', { key, parent: parent ?? '', labels })).mounts;
  } catch (error) {
    if (isStatus(error, 'already exists')) return undefined;
    throw error;
  }
}

/** A call about a snapshot; waits for a snapshotter that was started a moment ago. */
async function ask<Answer>(
  session: Session,
  snapshotter: Snapshotter,
  method: string,
  request: object,
): Promise<Answer> {
  for (const begun = performance.now(); ; ) {
    try {
      return await session.call<Answer>('snapshots', method, { snapshotter: snapshotter.name, ...request });
    } catch (error) {
      if (!snapshotter.remote || !isUnconnected(error)) throw error;
      if (performance.now() - begun > CONNECT_LIMIT)
        throw new NymphError('daemon', `containerd cannot reach the snapshotter ${snapshotter.name}`, {
          hint: 'See whether it runs, on the address that `ctr plugins ls -d` says.',
          cause: error,
        });
      await pause(CONNECT_PAUSE, session.signal);
    }
  }
}

/** containerd's connection to a proxy plugin is down: it is tried anew every few seconds, and until then each call fails. */
function isUnconnected(error: unknown): boolean {
  return isStatus(error, 'unavailable') && /connection error|server handshake/.test((error as Error).message);
}

/** From an active snapshot to a committed one; if that fails, the active one is gone. */
async function extract(
  session: Session,
  snapshotter: Snapshotter,
  key: string,
  mounts: object[],
  { descriptor, diffId, chainId, labels }: LayerToUnpack,
  fetch: () => Promise<void>,
): Promise<Unpacked> {
  let unpacked = false;
  try {
    const reason = reasonOf((await labelsOf(session, snapshotter, key)) ?? {});
    await fetch();
    const { mediaType, digest, size, annotations } = descriptor;
    const { applied } = await session.call<{ applied: { digest: string } }>('diff', 'Apply', {
      diff: { mediaType, digest, size, annotations },
      mounts,
    });
    if (applied.digest !== diffId)
      throw new NymphError('corrupt', `layer ${digest} unpacks to ${applied.digest}; the image says ${diffId}`);
    unpacked = true;
    await ask(session, snapshotter, 'Commit', { name: chainId, key, labels });
    await setLabels(session, digest, { [UNCOMPRESSED]: diffId });
    return { state: 'unpacked', ...reason };
  } catch (error) {
    // Where this fails too, containerd collects it with the lease.
    await session.callAnyway('snapshots', 'Remove', { snapshotter: snapshotter.name, key }).catch(() => {});
    // Somebody else was faster with the same layer.
    if (unpacked && isStatus(error, 'already exists')) return { state: 'present' };
    throw error;
  }
}

/** Labels of a snapshot, `undefined` if there is none. */
async function labelsOf(session: Session, snapshotter: Snapshotter, key: string): Promise<Labels | undefined> {
  try {
    return (await ask<Stat>(session, snapshotter, 'Stat', { key })).info.labels;
  } catch (error) {
    if (isStatus(error, 'not found')) return undefined;
    throw error;
  }
}

/** Adds labels to a blob of the content store. */
export async function setLabels(session: Session, digest: string, labels: Labels): Promise<void> {
  const updateMask = { paths: Object.keys(labels).map((key) => `labels.${key}`) };
  await session.call('content', 'Update', { info: { digest, labels }, updateMask });
}

/** As containerd has it: nanoseconds of the second, and something random. */
function uniquePart(): string {
  return `${process.hrtime.bigint() % 1_000_000_000n}-${randomBytes(3).toString('base64url')}`;
}
