/**
 * The loader: turns untrusted bytes into a checked image, on a thread of its own, because a large bootstrap takes a while
 * and faults must not wait for it. It fetches nothing itself: it says which ranges it needs.
 */
import { parentPort } from 'node:worker_threads';
import { NymphError } from '../errors.ts';
import { type Bootstrap, openBootstrap, readImage } from '../formats/rafs/bootstrap.ts';
import { type ChunkInfo, chunkInfoFromBlob, chunkInfoFromMeta, chunkInfoRange } from '../formats/rafs/chunk-info.ts';
import { describeBootstrap } from '../formats/rafs/describe.ts';
import { unpackBootstrapLayer } from '../formats/rafs/layer.ts';
import { indexLibraries } from '../formats/rafs/libraries.ts';
import { decodeMember, findBootstrapInBlob } from '../formats/rafs/toc.ts';
import type { FromLoader, LoadInput, Range, ToLoader } from './load-message.ts';

/** An inode takes some 100 bytes: this is more than any image has. */
const BOOTSTRAP_LIMIT = 1 << 30;

interface Found {
  bytes: Uint8Array;
  blobMeta: Map<string, Uint8Array>;
  blobId?: string;
}

const port = parentPort!;
let awaited: ((ranges: Uint8Array[]) => void) | undefined;

port.on('message', (message: ToLoader) => {
  if (message.type === 'ranges') awaited?.(message.ranges);
  else
    void load(message.input).catch((error) => {
      const known = error instanceof NymphError;
      say({
        type: 'error',
        code: known ? error.code : 'internal',
        message: (error as Error).message,
        hint: known ? error.hint : undefined,
      });
    });
});

function say(message: FromLoader, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function fetchRanges(ranges: Range[]): Promise<Uint8Array[]> {
  return new Promise((resolve) => {
    awaited = resolve;
    say({ type: 'need', ranges });
  });
}

async function load(input: LoadInput): Promise<void> {
  const found = await find(input);
  // A copy of its own: what it was found in is larger, and goes.
  const bytes = new Uint8Array(found.bytes);
  const bootstrap = openBootstrap(bytes, found.blobId);
  const result = readImage(bootstrap, { chunkInfo: await chunkInfos(bootstrap, found) });
  const description = describeBootstrap(bootstrap, result);
  const libraries = indexLibraries(bootstrap);
  say({ type: 'done', loaded: { image: result.image, bootstrap: bytes, description, libraries } }, [bytes.buffer]);
}

async function find(input: LoadInput): Promise<Found> {
  if (input.kind === 'bootstrap') return { bytes: input.bytes, blobMeta: new Map() };
  if (input.kind === 'layer') {
    const { bootstrap, blobMeta } = unpackBootstrapLayer(input.bytes, BOOTSTRAP_LIMIT);
    return { bytes: bootstrap, blobMeta };
  }
  const { bootstrap: member } = findBootstrapInBlob(input.bytes, input.objectSize);
  if (member === undefined)
    throw new NymphError('unsupported', `blob ${input.blobId} has no bootstrap inside`, {
      hint: 'Put the bootstrap beside `blobs/`, as nydus-image writes it.',
    });
  if (member.compressedSize > BOOTSTRAP_LIMIT)
    throw new NymphError(
      'unsupported',
      `the bootstrap in blob ${input.blobId} is larger than ${BOOTSTRAP_LIMIT} bytes`,
    );
  const { blobId } = input;
  const [stored] = await fetchRanges([{ blobId, offset: member.offset, length: member.compressedSize }]);
  return { bytes: decodeMember(member, stored, BOOTSTRAP_LIMIT), blobMeta: new Map(), blobId };
}

async function chunkInfos(bootstrap: Bootstrap, found: Found): Promise<Map<string, ChunkInfo>> {
  const infos = new Map<string, ChunkInfo>();
  const needed = bootstrap.blobs.filter((blob) => blob.needsChunkInfo);
  const absent = needed.filter((blob) => !found.blobMeta.has(blob.id));
  for (const blob of needed) {
    const meta = found.blobMeta.get(blob.id);
    if (meta !== undefined) infos.set(blob.id, chunkInfoFromMeta(blob, meta));
  }
  if (absent.length > 0) {
    const ranges = await fetchRanges(absent.map((blob) => ({ blobId: blob.id, ...chunkInfoRange(blob) })));
    for (const [i, blob] of absent.entries()) infos.set(blob.id, chunkInfoFromBlob(blob, ranges[i]));
  }
  return infos;
}
