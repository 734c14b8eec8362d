import type { Content } from './source.ts';
import type { SourceFile } from './tree.ts';

/** One chunk of a file. */
export interface SourceChunk {
  file: SourceFile;
  content: Uint8Array;
  last: boolean;
}

/** Bounds of what is read ahead: bytes, and files that are open. */
const MAX_BYTES = 16 << 20;
const MAX_READS = 32;

/** A file with reads to come. */
interface OpenFile {
  content: Promise<Content>;
  left: number;
}

/** Reads files chunk by chunk, in order, some chunks ahead. Every file that was opened is closed, also after a failure. */
export async function* readChunks(files: readonly SourceFile[], chunkSize: number): AsyncGenerator<SourceChunk> {
  const open = new Set<OpenFile>();
  const ahead: { chunk: Promise<SourceChunk>; size: number }[] = [];
  let bytes = 0;

  async function read(file: SourceFile, from: OpenFile, k: number): Promise<SourceChunk> {
    const content = await from.content;
    const bytes = await content.read(k * chunkSize, Math.min(chunkSize, file.size - k * chunkSize));
    if (--from.left === 0) {
      open.delete(from);
      await content.close();
    }
    return { file, content: bytes, last: (k + 1) * chunkSize >= file.size };
  }

  try {
    for (const file of files) {
      const from: OpenFile = { content: file.entry.open!(), left: Math.ceil(file.size / chunkSize) };
      open.add(from);
      const count = from.left;
      for (let k = 0; k < count; k++) {
        const chunk = read(file, from, k);
        // Awaited in its turn; until then a failure must not count as unhandled.
        chunk.catch(() => {});
        const size = Math.min(chunkSize, file.size);
        ahead.push({ chunk, size });
        bytes += size;
        while (bytes > MAX_BYTES || ahead.length >= MAX_READS) {
          const first = ahead.shift()!;
          bytes -= first.size;
          yield await first.chunk;
        }
      }
    }
    for (let first = ahead.shift(); first; first = ahead.shift()) yield await first.chunk;
  } finally {
    await Promise.allSettled(ahead.map(({ chunk }) => chunk));
    await Promise.allSettled([...open].map(async ({ content }) => (await content).close()));
  }
}
