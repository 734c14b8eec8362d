import type { Visit } from '../../erofs/walk.ts';
import { corrupt } from '../../errors.ts';
import { BLOCK_SIZE, type BlobRange, wholeBlocks } from '../../image/image.ts';
import type { BlobRecords } from './chunk-records.ts';
import type { Region } from './super-block.ts';

/** Inode numbers by priority, and where the table is in the bootstrap. */
export interface PrefetchTable {
  nids: readonly number[];
  offset: number;
}

/** Finds, while the tree is walked, which chunks the prefetch table means. */
export interface Prefetch {
  /** Entries of the table. */
  readonly entries: number;
  /** Whether the root is in the table: the whole image. */
  readonly all: boolean;
  /** Tells of a name; true if its chunks are wanted and were not told before. Directories pass it on to what they hold. */
  wants(visit: Visit): boolean;
  /** Adds a chunk of the file that `wants` was asked for last. */
  add(blob: number, chunk: number): void;
  /** Ranges by priority, then place; neighbours joined. @throws NymphError `corrupt` if an entry is not in the tree */
  ranges(tables: readonly BlobRecords[]): BlobRange[];
}

const ENTRY_SIZE = 4;
const NEVER = 0xffffffff;

/** The prefetch table of RAFS v6: inode numbers by priority, u32 each; the first 0 ends it. */
export function readPrefetchTable(view: DataView, { offset, size }: Region): PrefetchTable {
  const nids: number[] = [];
  for (let at = offset; at < offset + size; at += ENTRY_SIZE) {
    const nid = view.getUint32(at, true);
    if (nid === 0) break;
    nids.push(nid);
  }
  return { nids, offset };
}

export function createPrefetch(table: PrefetchTable, rootNid: number): Prefetch {
  const priority = new Map<number, number>();
  for (const [i, nid] of table.nids.entries()) if (!priority.has(nid)) priority.set(nid, i);
  const all = priority.has(rootNid);
  if (all) priority.clear();
  const missing = new Set(priority.keys());
  const ofDirectory: number[] = [];
  const told = new Set<number>();
  const chunks: { priority: number; blob: number; chunk: number }[] = [];
  let current = NEVER;
  return {
    entries: table.nids.length,
    all,
    wants(visit) {
      if (priority.size === 0) return false;
      const { nid } = visit.inode;
      const inherited = visit.parent < 0 ? NEVER : ofDirectory[visit.parent];
      current = Math.min(inherited, priority.get(nid) ?? NEVER);
      missing.delete(nid);
      if (visit.directory >= 0) ofDirectory[visit.directory] = current;
      if (current === NEVER || told.has(nid)) return false;
      told.add(nid);
      return true;
    },
    add(blob, chunk) {
      chunks.push({ priority: current, blob, chunk });
    },
    ranges(tables) {
      const [lost] = missing;
      if (lost !== undefined)
        throw corrupt('RAFS prefetch table', 'nid', table.offset, `inode ${lost} is not in the tree`);
      chunks.sort((a, b) => a.priority - b.priority || a.blob - b.blob || a.chunk - b.chunk);
      const ranges: BlobRange[] = [];
      for (const { blob, chunk } of chunks) {
        const start = tables[blob].block[chunk] * BLOCK_SIZE;
        const length = tables[blob].size[chunk];
        const last = ranges.at(-1);
        if (last !== undefined && last.blob === blob && wholeBlocks(last.offset + last.length) === start) {
          last.length = start + length - last.offset;
        } else {
          ranges.push({ blob, offset: start, length });
        }
      }
      return ranges;
    },
  };
}
