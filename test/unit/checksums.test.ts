/** Checksums of pieces of models' files. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createReadyMap, setReady } from '../../src/cache/ready-map.ts';
import { crc32c } from '../../src/codec/crc32c.ts';
import { imageOfFiles } from '../../src/formats/files/image.ts';
import { listOfLayers } from '../../src/formats/files/layers.ts';
import { checksumsOf } from '../../src/formats/modelpack/checksums.ts';
import { modelPlans } from '../../src/formats/modelpack/manifest.ts';
import type { TarMember } from '../../src/formats/tar/members.ts';
import { createPieceChecks } from '../../src/mount/piece-checks.ts';

const KEY = 'org.cnai.nydus.crcs';
const annotation = (...files: [path: string, crcs: string][]) =>
  JSON.stringify({ files: files.map(([file_path, chunk_crcs]) => ({ file_path, chunk_crcs })) });

test('CRC-32C gives what RFC 3720 says, in one go or in parts', () => {
  assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
  assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  assert.equal(crc32c(new Uint8Array()), 0);
  const bytes = Buffer.from(Array.from({ length: 1000 }, (_, i) => (i * 7) ^ (i >> 3)));
  for (const cut of [0, 1, 7, 8, 9, 500, 1000])
    assert.equal(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut))), crc32c(bytes));
});

test('the annotation is read; what is wrong in it is left out', () => {
  const of = (text: string, kind = 'weight') => Object.fromEntries(checksumsOf({ [KEY]: text }, kind));
  assert.deepEqual(of(annotation(['a', '0x1a2b,0xFFFFFFFF'], ['b', '0x0'])), {
    a: { pieceSize: 64 << 20, crcs: [0x1a2b, 0xffffffff] },
    b: { pieceSize: 64 << 20, crcs: [0] },
  });
  assert.equal(of(annotation(['a', '0x1']), 'weight.config').a.pieceSize, 4 << 20);
  for (const wrong of [
    '{',
    '[]',
    'null',
    '{"files":7}',
    '{"files":[null,7]}',
    annotation(['a', '0x1,']),
    annotation(['a', '12']),
  ])
    assert.deepEqual(of(wrong), {}, wrong);
  assert.deepEqual(of(annotation(['a', '0x1'.padEnd(1 << 20, '0')])), {});
  assert.equal(checksumsOf({}, 'weight').size, 0);
});

test('pieces lie where the file does, in a raw layer and in a tar; checksums that do not fit a file are left out', () => {
  const layer = (kind: string, size: number, crcs: [string, string][]) => ({
    mediaType: `application/vnd.cnai.model.${kind}`,
    digest: `sha256:${String(size).padStart(64, 'a')}` as const,
    size,
    annotations: { 'org.cnai.model.filepath': 'raw', [KEY]: annotation(...crcs) },
  });
  const crcs = [...'12'].map((digit) => `0x${digit}`).join();
  const plans = modelPlans([
    layer('weight.v1.raw', (64 << 20) + 5, [['raw', crcs]]),
    layer('code.v1.tar', 10_000_000, [
      ['one', crcs],
      ['other', '0x7'],
    ]),
  ]);
  const member = (path: string, offset: number, size: number): TarMember => ({
    ...{ path, mode: 0o644, uid: 0, gid: 0, mtime: 0, mtimeNs: 0 },
    content: { kind: 'file', offset, size },
  });
  const members = [member('one', 512, 5_000_000), member('other', 5_001_216, 4_900_000)];
  const list = listOfLayers('modelpack', plans, new Map([[plans[1], { members }]]), 'place');
  assert.deepEqual(imageOfFiles(list, '').pieces, [
    [
      { offset: 0, size: 64 << 20, crc: 1 },
      { offset: 64 << 20, size: 5, crc: 2 },
    ],
    [
      { offset: 512, size: 4 << 20, crc: 1 },
      { offset: 512 + (4 << 20), size: 5_000_000 - (4 << 20), crc: 2 },
    ],
  ]);
});

test('pieces are checked as they come, in any order, and a wrong one again once its bits were cleared', () => {
  const content = Buffer.alloc(3 << 20, 'abc');
  const map = createReadyMap(content.length);
  const pieces = [0, 1, 2].map((i) => ({
    offset: i << 20,
    size: 1 << 20,
    crc: crc32c(content.subarray(i << 20, (i + 1) << 20)) ^ (i === 1 ? 1 : 0),
  }));
  // Unsigned, as checksums are.
  const checks = createPieceChecks(
    pieces.map((piece) => ({ ...piece, crc: piece.crc >>> 0 })),
    map,
  );
  const asked: number[] = [];
  const step = () =>
    checks.step((offset, length) => {
      asked.push(offset);
      return content.subarray(offset, offset + length);
    });
  assert.equal(step().done, false);
  setReady(map, 2 << 20, 1 << 20);
  assert.deepEqual(step(), { done: true });
  setReady(map, 1 << 20, 1 << 20);
  const found = step();
  assert.deepEqual([found.wrong?.offset, found.again], [1 << 20, true]);
  assert.equal(step().done, false);
  setReady(map, 0, 1 << 20);
  assert.deepEqual(step(), { done: true });
  assert.deepEqual(asked, [2 << 20, 1 << 20, 0]);
});
