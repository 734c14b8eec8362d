/** What was read and fetched of one blob since the daemon's start. */
export interface BlobStatistics {
  /** Reads that waited and got their bytes, and those that got an error. */
  faults: number;
  failed: number;
  /** Stored bytes by the name of the source. */
  bytes: Map<string, number>;
  /** Slowest first. */
  slowest: SlowFault[];
}

export interface SlowFault {
  /** In the blob, bytes. */
  offset: number;
  milliseconds: number;
  /** Unix time of its end, ms. */
  at: number;
}

const MOST_SLOW = 32;
/** A hub's repository may have a blob for each of its files. */
const MOST_BLOBS = 4096;

/** To count in; those that were not counted in for longest make room. */
export function blobStatistics(blobs: Map<string, BlobStatistics>, key: string): BlobStatistics {
  const found = blobs.get(key) ?? { faults: 0, failed: 0, bytes: new Map(), slowest: [] };
  // To the end of the line.
  blobs.delete(key);
  if (blobs.size >= MOST_BLOBS) blobs.delete(blobs.keys().next().value as string);
  blobs.set(key, found);
  return found;
}

export function noteSlow({ slowest }: BlobStatistics, fault: SlowFault): void {
  if (slowest.length === MOST_SLOW && fault.milliseconds <= slowest[MOST_SLOW - 1].milliseconds) return;
  const place = slowest.findIndex(({ milliseconds }) => milliseconds < fault.milliseconds);
  slowest.splice(place < 0 ? slowest.length : place, 0, fault);
  slowest.length = Math.min(slowest.length, MOST_SLOW);
}
