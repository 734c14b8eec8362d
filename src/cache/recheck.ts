import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { digestEquals } from '../codec/digest.ts';
import { BLOCK_SIZE, type DigestAlgorithm } from '../image/image.ts';
import { hasAnyBit } from './bits.ts';
import type { Ledger } from './ledger.ts';
import { isReady, type ReadyMap, setReady } from './ready-map.ts';

/** Bytes hashed in one go: half a millisecond of the thread that answers faults. */
const SLICE = 1024 * 1024;

export interface RecheckResult {
  right: number;
  wrong: number;
}

/**
 * Verifies chunks whose bits cannot be trusted against the ledger, and sets the bits of those that are right. A chunk
 * that is fetched meanwhile is left as it is. Reads asynchronously, hashes in slices.
 *
 * @param doubtful bits of blocks whose chunks are to be verified
 * @param found called when bits were set
 */
export async function recheck(
  ledger: Ledger,
  data: FileHandle,
  map: ReadyMap,
  doubtful: Uint8Array,
  signal: AbortSignal,
  found: () => void,
): Promise<RecheckResult> {
  const result = { right: 0, wrong: 0 };
  const { chunks } = ledger;
  const { digestAlgorithm: algorithm } = ledger;
  if (algorithm === 'none') return result;
  const buffer = Buffer.allocUnsafe(SLICE);
  for (let index = 0; index < chunks.count && !signal.aborted; index++) {
    const offset = chunks.offset[index];
    const size = chunks.size[index];
    if (!hasAnyBit(doubtful, offset / BLOCK_SIZE, Math.floor((offset + size - 1) / BLOCK_SIZE))) continue;
    if (isReady(map, offset, size)) continue;
    const digest = await digestOnDisk(data, buffer, algorithm, offset, size, signal);
    if (!digest) continue;
    if (digestEquals(chunks.digest, index, digest)) {
      setReady(map, offset, size);
      result.right++;
      found();
    } else {
      result.wrong++;
    }
  }
  return result;
}

/** Undefined if the signal came first, or if the file is too short. */
async function digestOnDisk(
  data: FileHandle,
  buffer: Buffer,
  algorithm: DigestAlgorithm,
  offset: number,
  size: number,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const hasher = createHasher(algorithm);
  for (let done = 0; done < size; ) {
    const { bytesRead } = await data.read(buffer, 0, Math.min(SLICE, size - done), offset + done);
    if (bytesRead === 0 || signal.aborted) return undefined;
    hasher.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
  }
  return hasher.digest();
}

function createHasher(algorithm: DigestAlgorithm): { update(bytes: Uint8Array): unknown; digest(): Uint8Array } {
  if (algorithm === 'sha256') return createHash('sha256');
  const hasher = new Blake3Hasher();
  return { update: (bytes) => hasher.update(bytes), digest: () => hasher.digestBuffer() };
}
