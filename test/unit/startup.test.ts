import assert from 'node:assert/strict';
import { test } from 'node:test';
import { baseName, readDynamic, readProgram, startsProgram } from '../../src/formats/elf.ts';
import { fileTable } from '../../src/image/file-table.ts';
import { type ChunkTable, placeInFile } from '../../src/image/image.ts';
import type { AttachedImage } from '../../src/mount/attach.ts';
import type { ServedBlobs } from '../../src/mount/served.ts';
import { createStartup } from '../../src/mount/startup.ts';
import type { ThreadPool } from '../../src/threads/pool.ts';
import { makeBlob } from '../blob.ts';

/** An executable of one segment: header, interpreter, dynamic section, names. */
function program(names: string[]): Buffer {
  const strings = Buffer.from(`\0${names.join('\0')}\0`);
  const interpreter = Buffer.from('/lib64/ld-linux-x86-64.so.2\0');
  const table = 64;
  const interpreterAt = table + 3 * 56;
  const stringsAt = interpreterAt + interpreter.length;
  const dynamicAt = stringsAt + strings.length;
  const entries: [number, number][] = names.map((_, i) => [
    1,
    1 + names.slice(0, i).join('\0').length + (i > 0 ? 1 : 0),
  ]);
  entries.push([5, 0x400000 + stringsAt], [0, 0]);
  const bytes = Buffer.alloc(dynamicAt + entries.length * 16);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  bytes.writeBigUInt64LE(BigInt(table), 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(3, 56);
  const segment = (i: number, type: number, offset: number, size: number) => {
    bytes.writeUInt32LE(type, table + i * 56);
    bytes.writeBigUInt64LE(BigInt(offset), table + i * 56 + 8);
    bytes.writeBigUInt64LE(BigInt(0x400000 + offset), table + i * 56 + 16);
    bytes.writeBigUInt64LE(BigInt(size), table + i * 56 + 32);
  };
  segment(0, 1, 0, bytes.length);
  segment(1, 2, dynamicAt, entries.length * 16);
  segment(2, 3, interpreterAt, interpreter.length);
  interpreter.copy(bytes, interpreterAt);
  strings.copy(bytes, stringsAt);
  for (const [i, [tag, value]] of entries.entries()) {
    bytes.writeBigUInt64LE(BigInt(tag), dynamicAt + i * 16);
    bytes.writeBigUInt64LE(BigInt(value), dynamicAt + i * 16 + 8);
  }
  return bytes;
}

test('an ELF file tells its interpreter and its libraries', () => {
  const bytes = program(['libm.so.6', 'libc.so.6']);
  assert.equal(startsProgram(bytes), true);
  const found = readProgram(bytes)!;
  assert.equal(found.size, bytes.length);
  const { interpreter, dynamic } = found;
  assert.equal(baseName(bytes.subarray(interpreter!.offset)), 'ld-linux-x86-64.so.2');
  const names = readDynamic(found, bytes.subarray(dynamic!.offset, dynamic!.offset + dynamic!.size));
  assert.deepEqual(
    names.map((offset) => baseName(bytes.subarray(offset))),
    ['libm.so.6', 'libc.so.6'],
  );
});

test('bytes that are no ELF file, or a damaged one, are nothing to go by', () => {
  const bytes = program(['libc.so.6']);
  assert.equal(readProgram(bytes.subarray(0, 100)), undefined);
  assert.equal(startsProgram(Buffer.from('#!/bin/sh')), false);
  for (let i = 0; i < 5_000; i++) {
    const damaged = Buffer.from(bytes);
    for (let n = 0; n < 3; n++) damaged[Math.floor(Math.random() * damaged.length)] = Math.floor(Math.random() * 256);
    const found = readProgram(damaged);
    if (found === undefined) continue;
    assert.ok(Number.isSafeInteger(found.size));
    for (const offset of readDynamic(found, damaged)) assert.ok(offset < found.size);
  }
});

test('a place in a file is found behind the gaps between its chunks', () => {
  const chunks: ChunkTable = {
    count: 4,
    offset: Float64Array.of(0, 8192, 20480, 32768),
    size: Uint32Array.of(100, 8192, 8192, 50),
    digest: new Uint8Array(4 * 32),
    frame: Uint32Array.of(0, 1, 2, 3),
    frameOffset: new Uint32Array(4),
  };
  const places = [0, 8191, 8192, 16383, 16384, 16433].map((position) => placeInFile(chunks, 8192, position));
  assert.deepEqual(places, [8192, 16383, 20480, 28671, 32768, 32817]);
  assert.equal(placeInFile(chunks, 8192, 2 ** 52), 8192 + 2 ** 52, 'a guess');
  assert.equal(placeInFile(chunks, 40960, 5), 40965, 'behind all chunks');
});

test('a fault of the readahead itself is said, and ends nothing', async () => {
  const blob = makeBlob([5000]);
  const said = Promise.withResolvers<string>();
  const blobs = { read: () => Promise.reject(new RangeError('no memory')) } as unknown as ServedBlobs;
  const startup = createStartup(blobs, {} as ThreadPool, { expected: () => {} }, (level) => said.resolve(level));
  const image = { blobs: [{ cached: blob.cached }], onRelease: () => {} } as unknown as AttachedImage;
  startup.watch(image, Promise.resolve({ accounts: [], executables: fileTable([]), libraries: new Map() }));
  startup.arrived(blob.cached, 0, true);
  assert.equal(await said.promise, 'error');
  blob.close();
});
