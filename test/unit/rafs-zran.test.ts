/** ZRAN images of our own: read whole, and refused where their chunk information cannot be right. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { NymphError } from '../../src/errors.ts';
import { openBootstrap, readImage } from '../../src/formats/rafs/bootstrap.ts';
import {
  chunkInfoFromBlob,
  chunkInfoFromMeta,
  chunkInfoRange,
  type ReadToc,
  tocRange,
} from '../../src/formats/rafs/chunk-info.ts';
import { buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { walkDirectory } from '../../src/formats/rafs/write/directory.ts';
import { makeZranImage, type ZranImage, type ZranImageOptions } from '../zran-image.ts';
import { checkImage, readChunk } from './rafs-reading.ts';

const temporary = mkdtempSync(join(tmpdir(), 'nymph-zran-'));
after(() => rmSync(temporary, { recursive: true }));
const int = (limit: number) => Math.floor(Math.random() * limit);

const words = Array.from({ length: 300 }, () => randomBytes(6).toString('hex'));
const text = (count: number) => Buffer.from(Array.from({ length: count }, () => words[int(300)]).join(' '));
const FILES = [
  { name: 'a', content: text(30_000) },
  { name: 'b', content: randomBytes(100_000) },
  { name: 'c', content: Buffer.alloc(300_000, 7) },
  { name: 'd', content: Buffer.from('x') },
  { name: 'e', content: Buffer.alloc(0) },
  ...Array.from({ length: 50 }, (_, i) => ({ name: `f${String(i).padStart(2, '0')}`, content: text(1 + int(2000)) })),
];
const OPTIONS: ZranImageOptions = { distance: 20_000, chunkSize: 64 << 10 };

let made = 0;
const make = (options: Partial<ZranImageOptions> = {}) =>
  makeZranImage(join(temporary, `${made++}`), 'zran', FILES, { ...OPTIONS, ...options });

/** Reads every chunk of the image, verified. */
function readAll({ bootstrap, layerMeta, stream }: Pick<ZranImage, 'bootstrap' | 'layerMeta' | 'stream'>): void {
  const opened = openBootstrap(bootstrap);
  const [blob] = opened.blobs;
  const { image } = readImage(opened, { chunkInfo: new Map([[blob.id, chunkInfoFromMeta(blob, layerMeta)]]) });
  checkImage(image);
  const read = (_: string, offset: number, length: number) => stream.gzip.subarray(offset, offset + length);
  for (let i = 0; i < image.blobs[0].chunks.count; i++) readChunk(image.blobs[0], i, read);
}

test('an image over a gzip layer of our own is read whole', () => {
  const image = make();
  assert.ok(image.stream.contexts.length > 5);
  readAll(image);
});

test('chunk information comes from the layer, or from its own object by the digest or the ToC', () => {
  for (const toc of [false, true]) {
    const { bootstrap, meta, layerMeta, metaId } = make({ toc });
    const [blob] = openBootstrap(bootstrap).blobs;
    const cut = ({ id, offset, length }: { id: string; offset: number; length: number }, from = meta) => {
      assert.equal(id, metaId);
      return from.subarray(offset, offset + length);
    };
    const range = chunkInfoRange(blob);
    const tocAt = tocRange(blob, new Map());
    assert.equal(tocAt !== undefined, toc);
    assert.equal(range.length === meta.length, !toc, 'read whole where there is no ToC');
    const tocOf = (from: Buffer): ReadToc | undefined => tocAt && { range: tocAt, bytes: cut(tocAt, from) };
    const info = chunkInfoFromBlob(blob, cut(range), tocOf(meta));
    assert.deepEqual(
      Buffer.from(info.view.buffer, info.view.byteOffset, info.view.byteLength),
      layerMeta.subarray(0, info.view.byteLength),
    );
    // One bit of the chunk information or of its header, which would otherwise be noticed with the first wrong chunk.
    for (const at of [100, blob.chunkInfo.compressedSize + 2000]) {
      const damaged = Buffer.from(meta);
      damaged[at] ^= 1;
      assert.throws(() => chunkInfoFromBlob(blob, cut(range, damaged), tocOf(damaged)), { code: 'corrupt' });
    }
    if (!toc) continue;
    const damaged = Buffer.from(meta);
    damaged[meta.length - 512 - 200] ^= 1;
    assert.throws(() => chunkInfoFromBlob(blob, cut(range), tocOf(damaged)), { code: 'corrupt', message: /ToC/ });
  }
});

test('chunk information inside of a blob is verified by its ToC, where the size of the object is known', async () => {
  const directory = join(temporary, 'batch');
  mkdirSync(join(directory, 'tree'), { recursive: true });
  for (const { name, content } of FILES) writeFileSync(join(directory, 'tree', name), content);
  const bootstrap = join(directory, 'bootstrap');
  const blobs = join(directory, 'blobs');
  const { blobs: built } = await buildRafsV6(walkDirectory(join(directory, 'tree')), {
    bootstrap,
    blobs,
    batchSize: 64 << 10,
  });
  const [entry] = openBootstrap(readFileSync(bootstrap)).blobs;
  const object = readFileSync(join(blobs, built[0].id));
  assert.equal(tocRange(entry, new Map()), undefined);
  const range = tocRange(entry, new Map([[entry.id, object.length]]))!;
  const cut = (from: Buffer, { offset, length }: { offset: number; length: number }) =>
    from.subarray(offset, offset + length);
  const readInfo = (from: Buffer) =>
    chunkInfoFromBlob(entry, cut(from, chunkInfoRange(entry)), { range, bytes: cut(from, range) });
  assert.ok(readInfo(object).count > 10);
  for (const at of [range.offset + 30, chunkInfoRange(entry).offset + entry.chunkInfo.compressedSize + 1000]) {
    const damaged = Buffer.from(object);
    damaged[at] ^= 1;
    assert.throws(() => readInfo(damaged), { code: 'corrupt', message: /sha256/ });
  }
});

test('contexts and chunks that cannot be right are refused, and named', () => {
  const image = make();
  const count = image.stream.pieces.length;
  const context = (i: number) => count * 24 + i * 40;
  const cases: [string, RegExp, (meta: Buffer) => void][] = [
    ['no input', /in_len/, (meta) => meta.writeUInt32LE(0, context(1) + 24)],
    ['endless input', /in_len/, (meta) => meta.writeUInt32LE(0xffffffff, context(1) + 24)],
    ['input behind the layer', /in_len/, (meta) => meta.writeUInt32LE(30 << 20, context(1) + 24)],
    ['input nowhere', /in_/, (meta) => meta.writeBigUInt64LE(2n ** 63n, context(1))],
    ['out of order', /in_offset/, (meta) => meta.writeBigUInt64LE(0n, context(3))],
    ['no output', /out_len/, (meta) => meta.writeUInt32LE(0, context(1) + 28)],
    ['a bomb', /out_len/, (meta) => meta.writeUInt32LE(1 << 30, context(1) + 28)],
    ['a large dictionary', /dict_size/, (meta) => meta.writeUInt32LE((32 << 10) + 1, context(2) + 32)],
    ['a dictionary outside', /dict_offset/, (meta) => meta.writeBigUInt64LE(2n ** 40n, context(2) + 16)],
    ['the same dictionary twice', /dict_offset/, (meta) => meta.writeBigUInt64LE(0n, context(3) + 16)],
    ['nine bits', /ctx_bits/, (meta) => meta.writeUInt8(9, context(2) + 37)],
    ['a chunk in no context', /context/, (meta) => meta.writeUInt32LE(1000, 20)],
    ['a chunk out of its context', /out of its context/, (meta) => meta.writeUInt32LE(2 ** 31, 16)],
    ['a chunk that is not ZRAN', /flags/, (meta) => meta.writeUInt8(1, 7)],
    ['a chunk elsewhere', /uncompressed_offset/, (meta) => meta.writeUInt32LE(9, 0)],
    ['too many contexts', /ci_zran_count/, (meta) => meta.writeUInt32LE(2 ** 31, meta.length - 4096 + 56)],
    ['fewer bytes than contexts', /ci_zran_size/, (meta) => meta.writeUInt32LE(3, meta.length - 4096 + 48)],
  ];
  for (const [what, message, change] of cases) {
    const layerMeta = Buffer.from(image.layerMeta);
    change(layerMeta);
    assert.throws(() => readAll({ ...image, layerMeta }), { name: 'NymphError', code: 'corrupt', message }, what);
  }
  const many = Buffer.from(image.layerMeta);
  for (let i = 0; i < 5; i++)
    many.writeUInt32LE(image.stream.gzip.length - 1 - image.stream.contexts[i].start.offset, context(i) + 24);
  assert.throws(() => readAll({ ...image, layerMeta: many }), { code: 'corrupt', message: /overlap/ });
});

test('random changes of the contexts give an error of ours, or the right bytes', () => {
  const image = make();
  const start = image.stream.pieces.length * 24;
  const end = start + image.stream.contexts.length * 40;
  let refused = 0;
  for (let round = 0; round < 300; round++) {
    const layerMeta = Buffer.from(image.layerMeta);
    for (let change = 1 + int(2); change > 0; change--) {
      // Half of it in the contexts themselves.
      const at = int(2) ? start + int(end - start) : int(layerMeta.length - 4096);
      layerMeta[at] = int(3) ? int(256) : [0, 1, 0x7f, 0x80, 0xff][int(5)];
    }
    try {
      readAll({ ...image, layerMeta });
    } catch (error) {
      // What readChunk says of another digest.
      if (!(error instanceof NymphError) && !/another digest/.test((error as Error).message)) throw error;
      refused++;
    }
  }
  assert.ok(refused > 30 && refused < 300, `${refused}`);
});
