import { writeImage } from '../../erofs/write-image.ts';
import { NymphError } from '../../errors.ts';
import type { FileExtent, FileList, PieceChecksum } from '../../image/files.ts';
import { type Blob, guaranteeOf, type Image } from '../../image/image.ts';
import { blobOf, frameCount } from './blob.ts';
import { treeOf } from './tree.ts';

/** What a chunk address of the bootstrap can name. */
const MOST_OBJECTS = 65_534;
/** What one chunk address can cover: 2^31 blocks. */
const MOST_BYTES = 2 ** 43;
/** 8 TB of files as large as modctl takes them; the tables of so many have 120 MB. */
const MOST_FRAMES = 2 ** 22;

/** So many files of a tar are fetched each in its turn; one with more has small ones. */
const MOST_EXTENTS = 4096;

/** Files as an image: a bootstrap that we write, and a blob for each object. */
export interface FilesImage {
  image: Image;
  bootstrap: Uint8Array<ArrayBuffer>;
  /** Of each blob: a file that it holds, and where its files lie if it is a tar. */
  paths: string[];
  extents: (FileExtent[] | undefined)[];
  /** Of each blob without digests of chunks. */
  pieces: (PieceChecksum[] | undefined)[];
  /** As in StoredObject. */
  indexes: (string | undefined)[];
  warnings: string[];
  /** The commit of a hub's repository. */
  revision?: string;
}

/**
 * Makes an image of files that stand in their source as they are. The same list gives the same bytes. Its bootstrap has no
 * device table: it is for FUSE trees alone, which takes more objects than EROFS does.
 * @param structure what the list was read from, for errors
 * @throws NymphError `corrupt` for impossible paths, `unsupported` for too many objects
 */
export function imageOfFiles(list: FileList, structure: string): FilesImage {
  if (list.objects.length > MOST_OBJECTS)
    throw new NymphError('unsupported', `${structure} has ${list.objects.length} objects, of at most ${MOST_OBJECTS}`);
  const large = list.objects.find(({ size }) => size > MOST_BYTES);
  if (large !== undefined)
    throw new NymphError('unsupported', `${structure} has an object of ${large.size} bytes; 8 TiB are the limit`);
  if (list.objects.reduce((sum, object) => sum + frameCount(object), 0) > MOST_FRAMES)
    throw new NymphError('unsupported', `${structure} has more bytes than can be served: some TB are the limit`);
  const { root, names, warnings } = treeOf(list, structure);
  const blobs: Blob[] = list.objects.map(blobOf);
  const { bytes } = writeImage(root, [], names);
  return {
    image: {
      format: list.format,
      chunkSize: blobs.reduce((most, { chunks }) => Math.max(most, chunks.size[0] ?? 0), 0),
      inodes: names,
      blobs,
      prefetch: [],
      verifiable: blobs.every((blob) => guaranteeOf(blob) === 'chunk'),
    },
    bootstrap: bytes,
    paths: pathsOf(list),
    extents: extentsOf(list),
    pieces: piecesOf(list).map((pieces, i) =>
      guaranteeOf(blobs[i]) === 'file' && pieces.length > 0 ? pieces : undefined,
    ),
    indexes: list.objects.map(({ index }) => index),
    warnings: [...list.warnings, ...warnings],
    ...(list.revision !== undefined && { revision: list.revision }),
  };
}

function pathsOf({ files, objects }: FileList): string[] {
  const paths: string[] = new Array(objects.length).fill('');
  for (const { path, content } of files)
    if (content.kind === 'file' && content.object >= 0) paths[content.object] ||= path;
  return paths;
}

/** Undefined for an object that is a file itself, and for one that holds very many. */
function extentsOf({ files, objects }: FileList): (FileExtent[] | undefined)[] {
  const found: FileExtent[][] = objects.map(() => []);
  for (const { path, content } of files) {
    if (content.kind !== 'file' || content.object < 0) continue;
    found[content.object].push({ path, offset: content.offset, size: content.size });
  }
  return found.map((extents, i) => {
    const isFile = extents.every(({ offset, size }) => offset === 0 && size === objects[i].size);
    return isFile || extents.length > MOST_EXTENTS ? undefined : extents;
  });
}

function piecesOf({ files, objects }: FileList): PieceChecksum[][] {
  const found: PieceChecksum[][] = objects.map(() => []);
  for (const { content, checksums } of files) {
    if (content.kind !== 'file' || content.object < 0 || checksums === undefined) continue;
    const { pieceSize, crcs } = checksums;
    for (const [i, crc] of crcs.entries()) {
      const at = i * pieceSize;
      found[content.object].push({ offset: content.offset + at, size: Math.min(pieceSize, content.size - at), crc });
    }
  }
  return found;
}
