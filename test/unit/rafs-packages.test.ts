import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { unpackBootstrapLayer } from '../../src/formats/rafs/layer.ts';
import { decodeMember, findBootstrapInBlob } from '../../src/formats/rafs/toc.ts';

const LIMIT = 1 << 20;
const ID = 'ab'.repeat(32);

function tarHeader(name: string, size: number, type = '0'): Buffer {
  const header = Buffer.alloc(512);
  header.write(name);
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  header.write('        ', 148);
  header.write(type, 156);
  header.write('ustar\0', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

function tar(...members: [name: string, data: string, type?: string][]): Buffer {
  const parts = members.flatMap(([name, data, type]) => [
    tarHeader(name, data.length, type),
    Buffer.from(data),
    Buffer.alloc((512 - (data.length % 512)) % 512),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

test('a bootstrap layer is read plain and compressed, with its chunk information', () => {
  const plain = tar(['image/', '', '5'], ['./image/image.boot', 'boot'], [`image/${ID}.blob.meta`, 'meta'], ['x', 'y']);
  for (const layer of [plain, gzipSync(plain), zstdCompressSync(plain)]) {
    const { bootstrap, blobMeta } = unpackBootstrapLayer(layer, LIMIT);
    assert.equal(Buffer.from(bootstrap).toString(), 'boot');
    assert.deepEqual(
      [...blobMeta].map(([id, bytes]) => [id, Buffer.from(bytes).toString()]),
      [[ID, 'meta']],
    );
  }
});

test('a layer that unpacks to more than the limit is refused before it is unpacked', () => {
  const bomb = Buffer.concat([tarHeader('image/image.boot', 64 << 20), Buffer.alloc(64 << 20), Buffer.alloc(1024)]);
  for (const layer of [bomb, gzipSync(bomb), zstdCompressSync(bomb)]) {
    assert.throws(() => unpackBootstrapLayer(layer, LIMIT), { code: 'unsupported' });
  }
});

test('broken layers are corrupt', () => {
  const good = tar(['image/image.boot', 'boot']);
  const badSum = Buffer.from(good);
  badSum[0] ^= 1;
  const badData = gzipSync(good);
  badData[badData.length >> 1] ^= 0xff;
  const broken: [string, Uint8Array][] = [
    ['nothing inside', Buffer.alloc(1024)],
    ['no bytes', Buffer.alloc(0)],
    ['no bootstrap', tar(['image/other', 'boot'])],
    ['a directory instead', tar(['image/image.boot', '', '5'])],
    ['two bootstraps', tar(['image/image.boot', 'a'], ['image/image.boot', 'b'])],
    ['data cut short', Buffer.concat([tarHeader('image/image.boot', 4096), Buffer.alloc(512)])],
    ['a size in a PAX header', tar(['p', '15 size=1000000\n', 'x'], ['image/image.boot', 'boot'])],
    ['checksum', badSum],
    ['gzip', badData],
    ['gzip cut', gzipSync(good).subarray(0, 30)],
  ];
  for (const [what, layer] of broken)
    assert.throws(() => unpackBootstrapLayer(layer, LIMIT), { code: 'corrupt' }, what);
});

function tocEntry(name: string, flags: number, offset: number, stored: Buffer, content: Buffer): Buffer {
  const entry = Buffer.alloc(128);
  entry.writeUInt32LE(flags);
  entry.write(name, 8);
  createHash('sha256').update(content).digest().copy(entry, 24);
  entry.writeBigUInt64LE(BigInt(offset), 56);
  entry.writeBigUInt64LE(BigInt(stored.length), 64);
  entry.writeBigUInt64LE(BigInt(content.length), 72);
  return entry;
}

const CONTENT = Buffer.from('a bootstrap '.repeat(100));

/** A blob as `nydus-image create --blob-inline-meta --features blob-toc` ends it. */
function blobWithToc(): Buffer {
  const stored = zstdCompressSync(CONTENT);
  const front = Buffer.alloc(10_000, 7);
  const toc = tocEntry('image.boot', 2, front.length, stored, CONTENT);
  return Buffer.concat([front, stored, tarHeader('image.boot', stored.length), toc, tarHeader('rafs.blob.toc', 128)]);
}

test('the bootstrap is found by the ToC, and its digest is checked', () => {
  const blob = blobWithToc();
  const known = { size: 640, sha256: createHash('sha256').update(blob.subarray(-640)).digest() };
  const { bootstrap: member } = findBootstrapInBlob(blob.subarray(-4096), blob.length, known);
  assert.ok(member);
  const stored = blob.subarray(member.offset, member.offset + member.compressedSize);
  assert.deepEqual(Buffer.from(decodeMember(member, stored, LIMIT)), CONTENT);
  assert.throws(() => decodeMember({ ...member, sha256: new Uint8Array(32) }, stored, LIMIT), { code: 'corrupt' });
  assert.throws(() => decodeMember(member, stored.subarray(1), LIMIT), { code: 'corrupt' });
  const other = { ...known, sha256: new Uint8Array(32) };
  assert.throws(() => findBootstrapInBlob(blob.subarray(-4096), blob.length, other), { code: 'corrupt' });
});

test('a raw bootstrap at the end of a blob without ToC is found', () => {
  const blob = Buffer.concat([Buffer.alloc(9000), CONTENT, tarHeader('image.boot', CONTENT.length)]);
  const { bootstrap: member } = findBootstrapInBlob(blob.subarray(-4096), blob.length);
  assert.equal(member?.offset, 9000);
  assert.equal(member?.sha256, undefined);
  assert.deepEqual(Buffer.from(decodeMember(member!, CONTENT, LIMIT)), CONTENT);
});

test('a blob without both says so, and a ToC that points out of the blob is corrupt', () => {
  assert.throws(() => findBootstrapInBlob(Buffer.alloc(4096), 100_000), { code: 'not-found' });
  assert.throws(() => findBootstrapInBlob(Buffer.alloc(10), 10), { code: 'not-found' });
  assert.throws(() => findBootstrapInBlob(tarHeader('image.boot', 5000), 512), { code: 'corrupt' });
  assert.throws(() => findBootstrapInBlob(tarHeader('rafs.blob.toc', 128), 100_000), { code: 'corrupt' });
  const far = Buffer.concat([tocEntry('image.boot', 1, 5_000, CONTENT, CONTENT), tarHeader('rafs.blob.toc', 128)]);
  assert.throws(() => findBootstrapInBlob(far, far.length), { code: 'corrupt' });
  const codec = Buffer.concat([tocEntry('image.boot', 8, 0, CONTENT, CONTENT), tarHeader('rafs.blob.toc', 128)]);
  assert.throws(() => findBootstrapInBlob(codec, 100_000), { code: 'corrupt' });
});
