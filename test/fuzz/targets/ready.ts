/** The `ready` file of cache entries. */
import type { FileHandle } from 'node:fs/promises';
import { newReadyFile, readReadyFile, writeCurrent, writeSynced } from '../../../src/cache/ready-file.ts';
import { digestOf } from '../../../src/codec/digest.ts';
import { ensure, type Target } from '../target.ts';

const PAGE = 4096;
const INO = 2 ** 20 + 1;
const SIZE = 200 << 20;
const BITS = Math.ceil(SIZE / 4096 / 8);
const BOOT = '01234567-89ab-cdef-0123-456789abcdef';
const covered = new Uint8Array(BITS).fill(0xf7);

/** A file in memory, as far as it is read and written here. */
function fileOf(bytes: Uint8Array): FileHandle & { bytes: Buffer } {
  const file = {
    bytes: Buffer.from(bytes),
    async read(into: Uint8Array, start: number, length: number, at: number) {
      const part = file.bytes.subarray(at, at + length);
      into.set(part, start);
      return { bytesRead: part.length };
    },
  };
  return file as unknown as FileHandle & { bytes: Buffer };
}

const disk = {
  async write(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
    const into = file as FileHandle & { bytes: Buffer };
    if (into.bytes.length < position + bytes.length)
      into.bytes = Buffer.concat([into.bytes, Buffer.alloc(position + bytes.length - into.bytes.length)]);
    into.bytes.set(bytes, position);
  },
} as Parameters<typeof writeCurrent>[0];

export const target: Target = {
  name: 'ready',
  share: 0.5,
  async seeds() {
    const seeds: Buffer[] = [];
    for (const boot of [BOOT, 'another']) {
      const file = fileOf(new Uint8Array());
      const ready = newReadyFile(INO, SIZE, boot, BITS);
      const bits = new Uint8Array(BITS).fill(0x0f, 0, 5000);
      await writeCurrent(disk, file, ready, bits);
      await writeSynced(disk, file, ready, bits.fill(0, 0, 10));
      seeds.push(file.bytes);
    }
    return seeds;
  },
  errors: [],
  limit: 24 << 10,
  repair(input) {
    for (let at = 0; at + PAGE <= input.length; at += PAGE)
      input.set(digestOf('sha256', input.subarray(at + 16, at + PAGE)).subarray(0, 16), at);
  },
  async run(input) {
    const { ready, trusted, doubtful } = await readReadyFile(fileOf(input), INO, SIZE, BOOT, covered);
    let both = 0;
    let outside = 0;
    for (let i = 0; i < BITS; i++) {
      both |= trusted[i] & doubtful[i];
      outside |= (trusted[i] | doubtful[i]) & ~covered[i];
    }
    ensure(trusted.length === BITS && doubtful.length === BITS, 'bits are missing');
    ensure(both === 0, 'a bit is trusted and doubtful');
    ensure(outside === 0, 'a bit of a block without a chunk counts');
    return `${ready.stale.size} ${trusted.some((byte) => byte !== 0)} ${doubtful.some((byte) => byte !== 0)}`;
  },
};
