/** The load job: turns untrusted bytes into a checked image. It fetches nothing itself: it says which ranges it needs. */
import { hash } from 'node:crypto';
import { NymphError } from '../errors.ts';
import { type Bootstrap, openBootstrap, readImage } from '../formats/rafs/bootstrap.ts';
import {
  type ChunkInfo,
  chunkInfoFromBlob,
  chunkInfoFromMeta,
  chunkInfoRange,
  type ObjectRange,
  tocRange,
} from '../formats/rafs/chunk-info.ts';
import { describeBootstrap } from '../formats/rafs/describe.ts';
import { unpackBootstrapLayer } from '../formats/rafs/layer.ts';
import { decodeMember, findBootstrapInBlob } from '../formats/rafs/toc.ts';
import type { Blob, OciDigest } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';
import { type LoadInput, type LoadOutcome, type LoadRequest, rangeKey } from './load-types.ts';

/** An inode takes some 100 bytes: this is more than any image has. */
const BOOTSTRAP_LIMIT = 1 << 30;

interface Found {
  bytes: Uint8Array;
  blobMeta: Map<string, Uint8Array>;
  blobId?: string;
}

export function run({ input, sizes, ranges }: LoadRequest): JobResult<LoadOutcome> {
  const needed: ObjectRange[] = [];
  const read = (range: ObjectRange): Uint8Array | undefined => {
    const bytes = ranges.get(rangeKey(range));
    if (bytes === undefined) needed.push(range);
    return bytes;
  };
  const found = find(input, read);
  if (found === undefined) return { output: { type: 'need', ranges: needed } };
  // A copy of its own: what it was found in is larger, and goes.
  const bootstrap = openBootstrap(new Uint8Array(found.bytes), found.blobId);
  const chunkInfo = chunkInfos(bootstrap, found, sizes, read);
  if (needed.length > 0) return { output: { type: 'need', ranges: needed } };
  const result = readImage(bootstrap, { chunkInfo });
  const description = describeBootstrap(bootstrap, result);
  const bytes = bootstrap.erofs.bytes as Uint8Array<ArrayBuffer>;
  const bootstrapDigest: OciDigest = `sha256:${hash('sha256', bytes, 'hex')}`;
  const loaded = { image: result.image, bootstrap: bytes, bootstrapDigest, description };
  return { output: { type: 'done', loaded }, transfer: [bytes.buffer, ...result.image.blobs.flatMap(buffersOf)] };
}

/** Copying the tables of a million chunks would hold up the main thread for 60 ms. */
function buffersOf({ chunks, frames, dictionaries }: Blob): ArrayBuffer[] {
  const arrays = [chunks, frames, frames.contexts ?? {}, { dictionaries }].flatMap((table) => Object.values(table));
  return arrays.filter((array) => ArrayBuffer.isView(array)).map(({ buffer }) => buffer as ArrayBuffer);
}

type Read = (range: ObjectRange) => Uint8Array | undefined;

function find(input: LoadInput, read: Read): Found | undefined {
  if (input.kind === 'bootstrap') return { bytes: input.bytes, blobMeta: new Map() };
  if (input.kind === 'layer') {
    const { bootstrap, blobMeta } = unpackBootstrapLayer(input.bytes, BOOTSTRAP_LIMIT);
    return { bytes: bootstrap, blobMeta };
  }
  const { blobId } = input;
  const { bootstrap: member } = findBootstrapInBlob(input.bytes, input.objectSize);
  if (member === undefined)
    throw new NymphError('unsupported', `blob ${blobId} has no bootstrap inside`, {
      hint: 'Put the bootstrap beside `blobs/`, as nydus-image writes it.',
    });
  if (member.compressedSize > BOOTSTRAP_LIMIT)
    throw new NymphError('unsupported', `the bootstrap in blob ${blobId} is larger than ${BOOTSTRAP_LIMIT} bytes`);
  const stored = read({ id: blobId, offset: member.offset, length: member.compressedSize });
  return stored && { bytes: decodeMember(member, stored, BOOTSTRAP_LIMIT), blobMeta: new Map(), blobId };
}

function chunkInfos(
  bootstrap: Bootstrap,
  { blobMeta }: Found,
  sizes: ReadonlyMap<string, number>,
  read: Read,
): Map<string, ChunkInfo> {
  const infos = new Map<string, ChunkInfo>();
  for (const blob of bootstrap.blobs.filter((entry) => entry.needsChunkInfo)) {
    const meta = blobMeta.get(blob.separate?.id ?? blob.id);
    if (meta) {
      infos.set(blob.id, chunkInfoFromMeta(blob, meta));
      continue;
    }
    const range = tocRange(blob, sizes);
    const toc = range && read(range);
    const bytes = read(chunkInfoRange(blob));
    if (bytes && (!range || toc))
      infos.set(blob.id, chunkInfoFromBlob(blob, bytes, range && toc && { range, bytes: toc }));
  }
  return infos;
}
