import { DIGEST_SIZE } from '../../../codec/digest.ts';
import { NymphError } from '../../../errors.ts';
import type { DigestAlgorithm } from '../../../image/image.ts';
import { jobBeside } from '../../../threads/job.ts';
import type { ThreadPool } from '../../../threads/pool.ts';
import type { BlobWriter, FrameToWrite } from './blob-writer.ts';
import type { WrittenChunk } from './chunk-info.ts';
import type { Compressor } from './compress.ts';
import type { CompressOutcome, CompressRequest } from './compress-job.ts';
import { type FileToPack, groupPieces, type PieceGroup } from './pieces.ts';
import { lengthOf, type ReadOutcome, type ReadRequest } from './read-job.ts';

export interface PackOptions<File extends FileToPack> {
  chunkSize: number;
  digester: DigestAlgorithm;
  compressor: Compressor;
  level: number;
  /** 0 for no batches. */
  batchSize: number;
  pool: ThreadPool;
  /** Names the blob that a file goes to. */
  writerOf(file: File): Promise<BlobWriter>;
  /** All chunks of a file have their places. */
  packed(file: File, chunks: readonly WrittenChunk[]): void;
  /** Told now and then: bytes of content that are stored. */
  progress?(bytes: number): void;
  signal?: AbortSignal;
}

/** Chunks that were there before, and their bytes. */
export interface Duplicates {
  chunks: number;
  bytes: number;
}

const READ = jobBeside<ReadRequest, ReadOutcome>(import.meta.url, 'read-job');
const COMPRESS = jobBeside<CompressRequest, CompressOutcome>(import.meta.url, 'compress-job');

/** For who starts threads before there is work. */
export const PACK_JOBS = [READ, COMPRESS] as const;

/** A job should take some milliseconds: less, and handing it over counts. */
const GROUP_SIZE = 1 << 20;
/** Groups on their way: enough that no thread waits for the main thread. Few if they are large: their memory counts. */
const GROUPS_IN_FLIGHT = 24;
const MEMORY = 96 << 20;

/**
 * Memory of a group that is on its way. Shared with the threads and used again and again: buffers that are handed over
 * and thrown away cost a third of the time, most of it in the collector.
 */
interface Slot {
  input: SharedArrayBuffer;
  output: SharedArrayBuffer;
}

interface Packing {
  group: PieceGroup<FileToPack>;
  slot: Slot;
  /** What is stored of it, by blob. */
  parts: {
    writer: BlobWriter;
    frames: { members: WrittenChunk[] }[];
    offset: number;
    outcome: Promise<CompressOutcome>;
  }[];
}

/**
 * Stores the content of files: each distinct chunk once, in the order of the files. Work threads read, hash and compress;
 * the calling thread decides which chunks are new and writes. What comes out depends on nothing but files and options.
 * @param files not empty, of content that can be read
 */
export async function packFiles<File extends FileToPack>(
  files: readonly File[],
  options: PackOptions<File>,
): Promise<Duplicates> {
  const { chunkSize, digester, compressor, level, batchSize, pool } = options;
  const keepDigest = createDigestStore();
  const known = new Map<string, WrittenChunk>();
  const duplicates: Duplicates = { chunks: 0, bytes: 0 };
  const groupSize = Math.max(GROUP_SIZE, chunkSize);
  const slots = createSlots(groupSize);
  const reading: { group: PieceGroup<File>; slot: Slot; outcome: Promise<ReadOutcome> }[] = [];
  const packing: Packing[] = [];
  let stored = 0;
  let chunks: WrittenChunk[] = [];

  /** Decides what is new in the group that was read first, and sends it to be compressed. */
  async function admit(): Promise<void> {
    const { group, slot, outcome } = reading[0];
    const digests = await outcome;
    reading.shift();
    const drafts = new Map<BlobWriter, Draft>();
    let at = 0;
    for (const [i, piece] of group.pieces.entries()) {
      const length = lengthOf(piece);
      const { file, last } = group.owners[i];
      const digest = digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE);
      const key = `${Buffer.from(digest.buffer, digest.byteOffset, DIGEST_SIZE).toString('latin1')}${length}`;
      let chunk = known.get(key);
      if (chunk) {
        duplicates.chunks++;
        duplicates.bytes += length;
      } else {
        const writer = await options.writerOf(file);
        chunk = writer.claim(length, keepDigest(digest));
        known.set(key, chunk);
        const draft = drafts.get(writer) ?? newDraft();
        drafts.set(writer, draft);
        const small = file.size <= chunkSize && length * 2 < batchSize;
        if (!small || draft.open.size + length > batchSize) closeBatch(writer, draft);
        draft.parts.push(at, length);
        if (small) {
          draft.open.members.push(chunk);
          draft.open.size += length;
        } else draft.frames.push({ members: [chunk] });
      }
      chunks.push(chunk);
      at += length;
      if (!last) continue;
      options.packed(file, chunks);
      chunks = [];
    }
    let offset = 0;
    const parts: Packing['parts'] = [];
    for (const [writer, draft] of drafts) {
      closeBatch(writer, draft);
      const { frames } = draft;
      const outcome = pool.run(COMPRESS, {
        from: slot.input,
        parts: Uint32Array.from(draft.parts),
        frames: Uint32Array.from(frames, ({ members }) => members.length),
        ...{ compressor, level, into: slot.output, offset },
      });
      // Awaited in its turn; until then a failure must not count as unhandled.
      outcome.catch(() => {});
      parts.push({ writer, frames, offset, outcome });
      offset += frames.reduce((sum, { members }) => sum + members.reduce((size, chunk) => size + chunk.size, 0), 0);
    }
    packing.push({ group, slot, parts });
  }

  /** Stores the group that was compressed first. */
  async function store(): Promise<void> {
    const { group, slot, parts } = packing[0];
    for (const { writer, frames, offset, outcome } of parts) {
      const { sizes, compressed } = await outcome;
      const written = frames.map(
        ({ members }, i): FrameToWrite => ({ members, size: sizes[i], compressed: compressed[i] === 1 }),
      );
      const size = sizes.reduce((sum, next) => sum + next, 0);
      await writer.append(written, new Uint8Array(slot.output, offset, size));
    }
    packing.shift();
    slots.push(slot);
    stored += group.size;
    options.progress?.(stored);
  }

  async function step(): Promise<void> {
    // The reading ones and the packing ones share the threads half and half; in the end both run dry.
    if (reading.length > packing.length || packing.length === 0) await admit();
    else await store();
  }

  try {
    for (const group of groupPieces(files, chunkSize, groupSize)) {
      if (options.signal?.aborted) throw new NymphError('cancelled', 'building was cancelled');
      while (slots.length === 0) await step();
      const slot = slots.pop()!;
      const outcome = pool.run(READ, { pieces: group.pieces, digester, into: slot.input }, { priority: 'prefetch' });
      outcome.catch(() => {});
      reading.push({ group, slot, outcome });
    }
    while (reading.length + packing.length > 0) await step();
  } finally {
    // Descriptors and paths must not be used any more once this has ended.
    await Promise.allSettled(reading.map(({ outcome }) => outcome));
  }
  return duplicates;
}

function createSlots(size: number): Slot[] {
  const count = Math.min(GROUPS_IN_FLIGHT, Math.max(4, Math.floor(MEMORY / (2 * size))));
  return Array.from({ length: count }, () => ({
    input: new SharedArrayBuffer(size),
    output: new SharedArrayBuffer(size),
  }));
}

/** What one blob gets of a group. */
interface Draft {
  parts: number[];
  frames: { members: WrittenChunk[] }[];
  /** The batch that still takes members. */
  open: { members: WrittenChunk[]; size: number };
}

function newDraft(): Draft {
  return { parts: [], frames: [], open: { members: [], size: 0 } };
}

function closeBatch(writer: BlobWriter, draft: Draft): void {
  const { members } = draft.open;
  if (members.length === 0) return;
  writer.join(members);
  draft.frames.push({ members });
  draft.open = { members: [], size: 0 };
}

/** Copies digests into slabs of their own: each would keep the table of its group alive. */
function createDigestStore(): (digest: Uint8Array) => Buffer {
  let slab = Buffer.alloc(0);
  return (digest) => {
    if (slab.length === 0) slab = Buffer.alloc(DIGEST_SIZE * 4096);
    const kept = slab.subarray(0, DIGEST_SIZE);
    slab = slab.subarray(DIGEST_SIZE);
    kept.set(digest);
    return kept;
  };
}
