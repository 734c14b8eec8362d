import { NymphError } from '../../../errors.ts';
import type { Piece } from './read-job.ts';
import type { SourceEntry } from './source.ts';

/** A regular file whose content is to be stored. */
export interface FileToPack {
  /** For errors. */
  path: Buffer;
  size: number;
  entry: Pick<SourceEntry, 'content'>;
}

/** Chunks to be that are read in one go: of one large file, or of many small ones. */
export interface PieceGroup<File> {
  pieces: Piece[];
  /** The file of each piece, and whether it is the file's last. */
  owners: { file: File; last: boolean }[];
  size: number;
}

const GROUP_PIECES = 512;

/** Cuts files into chunks and groups them, in order. @param limit bytes of a group, at least the chunk size */
export function* groupPieces<File extends FileToPack>(
  files: readonly File[],
  chunkSize: number,
  limit: number,
): Generator<PieceGroup<File>> {
  let group: PieceGroup<File> = { pieces: [], owners: [], size: 0 };
  for (const file of files) {
    for (let offset = 0; offset < file.size; offset += chunkSize) {
      const length = Math.min(chunkSize, file.size - offset);
      if (group.pieces.length >= GROUP_PIECES || (group.size > 0 && group.size + length > limit)) {
        yield group;
        group = { pieces: [], owners: [], size: 0 };
      }
      group.pieces.push(pieceOf(file, offset, length));
      group.owners.push({ file, last: offset + length >= file.size });
      group.size += length;
    }
  }
  if (group.pieces.length > 0) yield group;
}

function pieceOf(file: FileToPack, offset: number, length: number): Piece {
  const { content } = file.entry;
  switch (content?.kind) {
    case 'bytes': {
      const bytes = content.bytes.slice(offset, offset + length);
      if (bytes.length !== length) throw new NymphError('source', `${file.path} gave too few bytes`);
      return { bytes };
    }
    case 'file':
      return { path: content.path.toString('latin1'), offset, length };
    case 'range':
      return { fd: content.fd, offset: content.offset + offset, length };
    default:
      throw new NymphError('internal', `${file.path} has no content that could be read`);
  }
}
