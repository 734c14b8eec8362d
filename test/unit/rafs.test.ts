import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openBootstrap, type ReadResult, readImage } from '../../src/formats/rafs/bootstrap.ts';
import {
  type ChunkInfo,
  chunkInfoFromBlob,
  chunkInfoFromMeta,
  chunkInfoRange,
  tocRange,
} from '../../src/formats/rafs/chunk-info.ts';
import { describeBootstrap } from '../../src/formats/rafs/describe.ts';
import { type BootstrapLayer, unpackBootstrapLayer } from '../../src/formats/rafs/layer.ts';
import { decodeMember, findBootstrapInBlob, TAIL_SIZE } from '../../src/formats/rafs/toc.ts';
import { encryptImage } from '../encrypted-image.ts';
import { APP_LAYOUT, APP_MANIFEST, sharedFixture, unpackKinds } from '../fixtures.ts';
import { type Row, readManifest } from '../manifest/rows.ts';
import { checkImage, type ReadStored, rowsOf } from './rafs-reading.ts';

const LAYER_LIMIT = 64 * 1024 * 1024;
const temporary = mkdtempSync(join(tmpdir(), 'nymph-rafs-'));
after(() => rmSync(temporary, { recursive: true }));

/** Reads ranges of files that are named by blob id. */
function blobReader(directory: string): ReadStored {
  const files = new Map<string, Buffer>();
  return (id, offset, length) => {
    let file = files.get(id);
    if (file === undefined) {
      file = readFileSync(join(directory, id));
      files.set(id, file);
    }
    assert.ok(offset + length <= file.length);
    return file.subarray(offset, offset + length);
  };
}

/** @param times false where the builder lost some: then mtimes of directories may be 0 */
function compare(actual: ReadonlyMap<string, Row>, manifest: Row[], withContent: boolean, times = true): void {
  assert.equal(actual.size, manifest.length);
  for (const row of manifest) {
    const expected = { ...row };
    if (!withContent) delete expected.sha256;
    const found = actual.get(JSON.stringify(row.path));
    assert.ok(found, `${JSON.stringify(row.path)} is missing`);
    if (!times && found.mode.startsWith('0o4') && found.mtime === 0) expected.mtime = 0;
    // Manifests may show only the start of a digest.
    if (expected.sha256 !== undefined && found.sha256?.startsWith(expected.sha256)) expected.sha256 = found.sha256;
    assert.deepEqual(found, expected);
  }
}

function read(bytes: Uint8Array, blobs: ReadStored, meta?: Map<string, Uint8Array>, blobId?: string) {
  const bootstrap = openBootstrap(bytes, blobId);
  const chunkInfo = new Map<string, ChunkInfo>();
  for (const blob of bootstrap.blobs.filter((entry) => entry.needsChunkInfo)) {
    const inLayer = meta?.get(blob.separate?.id ?? blob.id);
    const { id, offset, length } = chunkInfoRange(blob);
    const range = tocRange(blob, new Map());
    const toc = range && { range, bytes: blobs(range.id, range.offset, range.length) };
    const info = inLayer ? chunkInfoFromMeta(blob, inLayer) : chunkInfoFromBlob(blob, blobs(id, offset, length), toc);
    chunkInfo.set(blob.id, info);
  }
  const result = readImage(bootstrap, { chunkInfo });
  checkImage(result.image);
  return { bootstrap, result };
}

function layerOf(layout: string, tag: string): BootstrapLayer {
  const blob = (digest: string) => readFileSync(join(layout, 'blobs', 'sha256', digest.slice('sha256:'.length)));
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
    manifests: { digest: string; annotations: Record<string, string> }[];
  };
  const entry = index.manifests.find((m) => m.annotations['org.opencontainers.image.ref.name'] === tag);
  const manifest = JSON.parse(blob(entry!.digest).toString()) as { layers: { digest: string }[] };
  return unpackBootstrapLayer(blob(manifest.layers.at(-1)!.digest), LAYER_LIMIT);
}

function readLayout(layout: string, tag: string) {
  const { bootstrap, blobMeta } = layerOf(layout, tag);
  return read(bootstrap, blobReader(join(layout, 'blobs', 'sha256')), blobMeta);
}

const kinds = unpackKinds(join(temporary, 'kinds'));

test('the project image agrees with its manifest, down to every byte', () => {
  const { bootstrap, result } = readLayout(APP_LAYOUT, 'nydus');
  const rows = rowsOf(bootstrap, result.image, blobReader(join(APP_LAYOUT, 'blobs', 'sha256')));
  compare(rows, readManifest(APP_MANIFEST), true, false);
  assert.equal(result.image.inodes, 224);
  assert.equal(result.image.prefetch, 'all');
  assert.equal(result.image.verifiable, true);
  for (const blob of result.image.blobs) assert.equal(blob.digest, `sha256:${blob.id}`);
});

test('every kind of file of a batched image agrees with its manifest, down to every byte', () => {
  const { bootstrap, result } = read(readFileSync(kinds.bootstrap), blobReader(kinds.blobs));
  compare(rowsOf(bootstrap, result.image, blobReader(kinds.blobs)), readManifest(kinds.manifest), true);
  assert.ok(result.image.blobs[0].frames.count < result.image.blobs[0].chunks.count / 100, 'chunks share frames');
});

test('a batched image without chunk information is refused', () => {
  assert.throws(() => readImage(openBootstrap(readFileSync(kinds.bootstrap))), { name: 'NymphError' });
});

test('an image with every kind of chunk, encrypted, agrees with its manifest, down to every byte', () => {
  const folder = join(temporary, 'encrypted');
  const [id] = readdirSync(kinds.blobs);
  encryptImage(readFileSync(kinds.bootstrap), readFileSync(join(kinds.blobs, id)), folder);
  const blobs = blobReader(join(folder, 'blobs'));
  const { bootstrap, result } = read(readFileSync(join(folder, 'bootstrap')), blobs);
  assert.ok(result.image.blobs[0].cipher);
  assert.notEqual(bootstrap.blobs[0].id, id);
  compare(rowsOf(bootstrap, result.image, blobs), readManifest(kinds.manifest), true);
});

test('the description names what inspect prints, and can be sent as JSON', () => {
  const { bootstrap, result } = read(readFileSync(kinds.bootstrap), blobReader(kinds.blobs));
  const shown = describeBootstrap(bootstrap, result);
  assert.deepEqual(JSON.parse(JSON.stringify(shown)).counts, {
    inodes: 3121,
    directories: 77,
    files: 3034,
    symlinks: 6,
    devices: 2,
    fifos: 1,
    sockets: 1,
    hardLinks: 3,
    withXattrs: 3,
    fileBytes: 17841822,
  });
  assert.ok(shown.flags.includes('COMPRESSION_ZSTD'));
  assert.deepEqual(shown.blobs[0].features, ['ALIGNED', 'CHUNK_INFO_V2', 'BATCH', 'CAP_TAR_TOC']);
  assert.equal(shown.buildTime, undefined);
});

test('an image is plain data: it can be moved to another thread with all its buffers', () => {
  const { result } = readLayout(APP_LAYOUT, 'nydus');
  const buffers = result.image.blobs.flatMap(({ chunks, frames }) =>
    [...Object.values(chunks), ...Object.values(frames)].flatMap((v) => (typeof v === 'number' ? [] : [v.buffer])),
  );
  assert.equal(new Set(buffers).size, buffers.length, 'no buffer is shared');
  const count = result.image.blobs[0].chunks.count;
  const moved = structuredClone(result.image, { transfer: buffers });
  assert.equal(moved.blobs[0].chunks.offset.length, count);
  checkImage(moved);
});

const WHOLE = [
  'v6-zstd',
  'v6-lz4-sha256',
  'v6-none-64k',
  'v6-zstd-batch',
  'v6-encrypt',
  'v6-targz-ref',
  'v5-lz4',
  'v5-none-aligned',
  'v5-zstd-sha256',
];
for (const variant of WHOLE) {
  test(`rafs/${variant} agrees with its manifest, down to every byte`, (t) => {
    const folder = sharedFixture('rafs', variant);
    if (folder === null) return t.skip('the larger set of fixtures is not here');
    const blobs = blobReader(join(folder, 'blobs'));
    const { bootstrap, result } = read(readFileSync(join(folder, 'bootstrap')), blobs);
    const manifest = variant === 'v6-targz-ref' ? 'kinds-tar.jsonl' : 'kinds.jsonl';
    compare(rowsOf(bootstrap, result.image, blobs), readManifest(sharedFixture('manifests', manifest)!), true);
    assert.equal(result.image.verifiable, true);
    assert.deepEqual(result.image.prefetch, []);
  });
}

test('rafs/v6-zstd-toc-inline: the bootstrap is found by the ToC, and takes the id that it is given', (t) => {
  const folder = sharedFixture('rafs', 'v6-zstd-toc-inline', 'blobs');
  if (folder === null) return t.skip('the larger set of fixtures is not here');
  const id = '10307438379725a354cd401487dc78aabb163209a7e046a60d0597a41c043b05';
  const object = readFileSync(join(folder, id));
  const { bootstrap: member, chunkInfo } = findBootstrapInBlob(object.subarray(-TAIL_SIZE), object.length);
  assert.ok(member && chunkInfo);
  const stored = object.subarray(member.offset, member.offset + member.compressedSize);
  const bytes = decodeMember(member, stored, LAYER_LIMIT);
  assert.throws(() => decodeMember(member, stored, bytes.length - 1), { code: 'unsupported' });
  assert.throws(() => openBootstrap(bytes), { code: 'corrupt', message: /"x+" is no blob id/ });
  const blobs = blobReader(folder);
  const { bootstrap, result } = read(bytes, blobs, undefined, id);
  assert.equal(result.image.blobs[0].id, id);
  compare(rowsOf(bootstrap, result.image, blobs), readManifest(sharedFixture('manifests', 'kinds.jsonl')!), true);
});

for (const tag of ['nydus', 'batch', 'nydus5', 'zran']) {
  test(`oci/app:${tag} agrees with its manifest, down to every byte`, (t) => {
    const layout = sharedFixture('oci', 'app');
    if (layout === null) return t.skip('the larger set of fixtures is not here');
    const { bootstrap, result } = readLayout(layout, tag);
    const rows = rowsOf(bootstrap, result.image, blobReader(join(layout, 'blobs', 'sha256')));
    compare(rows, readManifest(sharedFixture('manifests', 'app.jsonl')!), true, false);
  });
}

for (const tag of ['batch', 'zran']) {
  test(`oci/app:${tag}: chunk information from the layer and from the blobs say the same`, (t) => {
    const layout = sharedFixture('oci', 'app');
    if (layout === null) return t.skip('the larger set of fixtures is not here');
    const { bootstrap, blobMeta } = layerOf(layout, tag);
    assert.equal(blobMeta.size, 2);
    const blobs = blobReader(join(layout, 'blobs', 'sha256'));
    const images: ReadResult[] = [blobMeta, undefined].map((meta) => read(bootstrap, blobs, meta).result);
    assert.deepEqual(images[0], images[1]);
  });
}

test('oci/python agrees with its manifest as far as the bootstrap tells', (t) => {
  const layout = sharedFixture('oci', 'python');
  if (layout === null) return t.skip('the larger set of fixtures is not here');
  const { bootstrap, result } = readLayout(layout, 'nydus');
  compare(rowsOf(bootstrap, result.image), readManifest(sharedFixture('manifests', 'python.jsonl')!), false, false);
});
