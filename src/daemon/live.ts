import { readiness } from '../cache/readiness.ts';
import { readyCells } from '../cache/ready-map.ts';
import type { BlobStatistics } from '../fetch/blob-statistics.ts';
import type { ActiveMount } from '../mount/mounts.ts';
import type { Counts, Live, LiveBlob, LiveImage } from './api.ts';
import type { Counters } from './reports.ts';

/** Blobs of an image that are told of one by one: a model may have thousands. */
const MOST_BLOBS = 64;
export interface LiveParts {
  counters: () => Counters;
  mounts: () => readonly ActiveMount[];
  statistics: ReadonlyMap<string, BlobStatistics>;
}

/** What is served now, out of memory: no file is read. @param cells of the map of each image, 0 for none */
export function createLive({ counters, mounts, statistics }: LiveParts): (cells: number) => Live {
  return (cells) => {
    const byDigest = Map.groupBy(mounts(), ({ stored }) => stored.digest);
    const images = Array.from(byDigest.values(), (group) => liveImage(group, cells, statistics));
    return { time: Date.now(), ...counters(), images };
  };
}

function liveImage(group: ActiveMount[], cells: number, statistics: ReadonlyMap<string, BlobStatistics>): LiveImage {
  const [{ stored, image }] = group;
  const blobs = image.blobs.map(({ cached }, i) => {
    const { id, path } = image.stored.blobs[i];
    return { id, path, cached, ...readiness(cached.chunks, cached.ready) };
  });
  const size = blobs.reduce((sum, blob) => sum + blob.size, 0);
  const largest = blobs.length > MOST_BLOBS ? blobs.toSorted((a, b) => b.size - a.size).slice(0, MOST_BLOBS) : blobs;
  return {
    reference: stored.reference,
    digest: stored.digest,
    kind: stored.kind,
    ...(stored.reason !== undefined && { reason: stored.reason }),
    mounts: group.map((mount) => mount.stored.directory),
    size,
    ready: blobs.reduce((sum, blob) => sum + blob.ready, 0),
    ...countsOf(
      image.stored.blobs.map(({ key }) => key),
      statistics,
    ),
    blobs: largest.map(({ id, path, cached, ...blob }): LiveBlob => {
      const map = () => readyCells(cached.ready, Math.max(1, Math.round((cells * blob.size) / Math.max(1, size))));
      return {
        id,
        ...(path !== undefined && { path }),
        size: blob.size,
        ready: blob.ready,
        ...(cells > 0 && { cells: Buffer.from(map()).toString('base64') }),
      };
    }),
  };
}

/** Sums over blobs, by their keys. */
export function countsOf(keys: readonly string[], statistics: ReadonlyMap<string, BlobStatistics>): Counts {
  const counts: Counts = { faults: 0, failed: 0, bytes: {} };
  for (const key of new Set(keys)) {
    const blob = statistics.get(key);
    if (blob === undefined) continue;
    counts.faults += blob.faults;
    counts.failed += blob.failed;
    for (const [source, bytes] of blob.bytes) counts.bytes[source] = (counts.bytes[source] ?? 0) + bytes;
  }
  return counts;
}
