import type { FileChecksums } from '../../image/files.ts';

/**
 * Checksums of pieces of files, as modctl up to v0.0.5 wrote them beside a layer when it made a Nydus image of a model:
 * `{"files":[{"file_path":"…","chunk_crcs":"0x1a2b,0x…"}]}`, CRC-32C of each piece of a file.
 */
const KEY = 'org.cnai.nydus.crcs';
const MOST_BYTES = 1 << 20;
const LARGE_PIECE = 64 << 20;
const PIECE = 4 << 20;

/** By path. A hint only: what is wrong in it is left out. @param kind of the layer, which says how large pieces are */
export function checksumsOf(annotations: Record<string, string>, kind: string): Map<string, FileChecksums> {
  const text = annotations[KEY];
  const found = new Map<string, FileChecksums>();
  if (text === undefined || text.length > MOST_BYTES) return found;
  const pieceSize = kind === 'weight' || kind === 'dataset' ? LARGE_PIECE : PIECE;
  for (const entry of filesOf(text)) {
    const { file_path, chunk_crcs } = (entry ?? {}) as Record<string, unknown>;
    if (typeof file_path !== 'string' || typeof chunk_crcs !== 'string') continue;
    const words = chunk_crcs.split(',').map((word) => word.trim());
    if (words.every((word) => /^0x[0-9a-f]{1,8}$/i.test(word)))
      found.set(file_path, { pieceSize, crcs: words.map(Number) });
  }
  return found;
}

function filesOf(text: string): unknown[] {
  try {
    const { files } = JSON.parse(text) as { files?: unknown };
    return Array.isArray(files) ? files : [];
  } catch {
    return [];
  }
}
