import { createHash } from 'node:crypto';
import { S_IFMT, S_IFREG } from '../erofs/inode.ts';
import { NymphError } from '../errors.ts';
import { createBlobWriter, type WrittenBlob } from '../formats/rafs/write/blob-writer.ts';
import type { BuildOptions } from '../formats/rafs/write/build.ts';
import type { WrittenChunk } from '../formats/rafs/write/chunk-info.ts';
import { packFiles } from '../formats/rafs/write/pack.ts';
import type { TarEntry } from '../formats/tar/read.ts';
import type { Descriptor, Repository } from '../sources/source.ts';
import { readWhole } from '../sources/whole.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { openTarStream } from './tar-file.ts';

/** How all layers of an image are packed. */
export type LayerPacking = Required<
  Pick<BuildOptions, 'compressor' | 'level' | 'chunkSize' | 'digester' | 'batchSize'>
>;

/** A layer whose content is in a blob. */
export interface PackedLayer {
  /** What its tar holds, whiteouts included; files have the chunks of the blob. */
  entries: TarEntry[];
  /** Undefined where no file has content. */
  blob?: WrittenBlob;
}

export interface PackLayerParts {
  /** Position of the blob among those that are made together. */
  number: number;
  /** For the blob, and for content that is put aside meanwhile. */
  directory: string;
  pool: ThreadPool;
  /** Told now and then: bytes of the layer that were read. */
  progress(bytes: number): void;
  signal: AbortSignal;
}

/**
 * Reads a layer of an ordinary image and packs its files into a blob. The blob depends on nothing but the layer and how it
 * is packed: the same layer in another image gives the same blob.
 * @throws NymphError `corrupt` if the layer does not have its digest or is no tar
 */
export async function packLayer(
  from: Repository,
  layer: Descriptor,
  packing: LayerPacking,
  parts: PackLayerParts,
): Promise<PackedLayer> {
  const { directory, pool, signal, progress } = parts;
  const hash = createHash('sha256');
  async function* hashed(): AsyncGenerator<Uint8Array> {
    for await (const piece of readWhole(from.open(layer), layer.size, signal)) {
      hash.update(piece);
      yield piece;
    }
  }
  const tar = await openTarStream(hashed(), `layer ${layer.digest}`, { directory, progress, signal });
  try {
    if (`sha256:${hash.digest('hex')}` !== layer.digest)
      throw new NymphError('corrupt', `layer ${layer.digest} came with other bytes`, { retryable: true });
    const files = filesOf(tar.entries);
    const { compressor, level, batchSize } = packing;
    const blobOptions = { compressor, level, toc: true, batches: batchSize > 0 };
    const writer = await createBlobWriter(directory, parts.number, blobOptions);
    try {
      const packed = new Map<TarEntry, readonly WrittenChunk[]>();
      await packFiles(files, {
        ...{ ...packing, pool, signal },
        writerOf: async () => writer,
        packed: ({ entry }, chunks) => packed.set(entry, chunks),
      });
      const entries = tar.entries.map((entry): TarEntry => {
        if (!entry.content) return entry;
        // One that the same layer replaces by another has no chunks, and no name either.
        return { ...entry, content: { kind: 'chunks', chunks: packed.get(entry) ?? [] } };
      });
      if (files.length > 0) return { entries, blob: await writer.finish() };
      await writer.abandon();
      return { entries };
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  } finally {
    await tar.close();
  }
}

/** The files with content that a tar leaves behind, in the order of the tree: by the bytes of their names. */
function filesOf(entries: readonly TarEntry[]): { path: Buffer; size: number; entry: TarEntry }[] {
  const last = new Map<string, TarEntry>();
  for (const entry of entries) last.set(entry.path.toString('latin1').replaceAll('/', '\0'), entry);
  return [...last]
    .filter(([, { mode, content }]) => (mode & S_IFMT) === S_IFREG && content)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, entry]) => ({ path: entry.path, size: entry.size!, entry }));
}
