import { corrupt, NymphError } from '../errors.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import { readU64 } from './fields.ts';

/**
 * The EROFS super-block and device table of a RAFS v6 bootstrap. Layout and rules: Linux `fs/erofs/erofs_fs.h` and
 * `super.c`. The kernel mounts the same bytes later and trusts fields that we do not need, so those are checked too:
 * what is accepted here means the same to every kernel from 6.12 on.
 */
export interface Erofs {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly rootNid: number;
  /** What the builder counted: one for each name, hard links too. */
  readonly inodeCount: number;
  /** Seconds and nanoseconds; compact inodes have this time. */
  readonly buildTime: number;
  readonly buildTimeNs: number;
  /** Byte offset to which inode numbers count: inode = metaOffset + nid × 32. */
  readonly metaOffset: number;
  readonly devices: readonly DeviceSlot[];
}

export interface DeviceSlot {
  /** Byte offset of the slot. */
  readonly offset: number;
  /** 64 bytes as Latin-1: for RAFS the blob id. */
  readonly tag: string;
  /** Size of the device in blocks of {@link BLOCK_SIZE}, at least 1. */
  readonly blocks: number;
}

export const EROFS_MAGIC = 0xe0f5e1e2;
export const SUPER_BLOCK_OFFSET = 1024;
/** Set by every RAFS v6 builder. */
export const COMPAT_RAFS_V6 = 0x40000000;

const STRUCTURE = 'EROFS super-block';
const SLOT_SIZE = 128;
const SLOT_TAG_SIZE = 64;
const MAX_FILE_SIZE = 0x80000000;
const BLOCK_BITS = 12;
const INCOMPAT_CHUNKED_FILE = 0x4;
const INCOMPAT_DEVICE_TABLE = 0x8;
const INCOMPAT = INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE;
const DEVICE_SLOT_OFFSET = 11;
/** Device ids share 16 bits with bits of the chunk index: 8 are left, and 0 means the bootstrap itself. */
const MAX_DEVICES = 254;

/**
 * Reads and checks the super-block and the device table.
 * @param bytes the whole bootstrap
 * @throws NymphError `corrupt`, or `unsupported` for features that RAFS v6 does not have
 */
export function openErofs(bytes: Uint8Array): Erofs {
  if (bytes.length < BLOCK_SIZE || bytes.length % BLOCK_SIZE !== 0 || bytes.length > MAX_FILE_SIZE) {
    throw corrupt('bootstrap', 'size', 0, `${bytes.length} bytes is not a whole number of blocks up to 2 GiB`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const u8 = (at: number) => view.getUint8(SUPER_BLOCK_OFFSET + at);
  const u16 = (at: number) => view.getUint16(SUPER_BLOCK_OFFSET + at, true);
  const u32 = (at: number) => view.getUint32(SUPER_BLOCK_OFFSET + at, true);
  const expect = (field: string, at: number, value: number, expected: number) => {
    if (value !== expected) {
      throw corrupt(
        STRUCTURE,
        field,
        SUPER_BLOCK_OFFSET + at,
        `0x${value.toString(16)}, not 0x${expected.toString(16)}`,
      );
    }
  };

  expect('magic', 0, u32(0), EROFS_MAGIC);
  requireFeatures('feature_compat', u32(8), COMPAT_RAFS_V6);
  requireFeatures('feature_incompat', u32(80), INCOMPAT);
  expect('checksum', 4, u32(4), 0);
  expect('blkszbits', 12, u8(12), BLOCK_BITS);
  expect('sb_extslots', 13, u8(13), 0);
  expect('xattr_blkaddr', 44, u32(44), 0);
  expect('lz4_max_distance', 84, u16(84), 0);
  expect('devt_slotoff', 88, u16(88), DEVICE_SLOT_OFFSET);
  expect('dirblkbits', 90, u8(90), 0);
  expect('xattr_prefix_count', 91, u8(91), 0);

  const buildTimeNs = u32(32);
  if (buildTimeNs >= 1e9) throw corrupt(STRUCTURE, 'build_time_nsec', SUPER_BLOCK_OFFSET + 32, 'a second or more');
  const metaOffset = u32(40) * BLOCK_SIZE;
  if (metaOffset >= bytes.length) {
    throw corrupt(STRUCTURE, 'meta_blkaddr', SUPER_BLOCK_OFFSET + 40, 'behind the end of the bootstrap');
  }
  return {
    bytes,
    view,
    rootNid: u16(14),
    inodeCount: readU64(view, SUPER_BLOCK_OFFSET + 16, STRUCTURE, 'inos'),
    buildTime: readU64(view, SUPER_BLOCK_OFFSET + 24, STRUCTURE, 'build_time'),
    buildTimeNs,
    metaOffset,
    devices: readDevices(bytes, view, u16(86)),
  };
}

function requireFeatures(field: string, value: number, expected: number): void {
  const unknown = (value & ~expected) >>> 0;
  if (unknown !== 0) {
    throw new NymphError(
      'unsupported',
      `${STRUCTURE}: ${field} has bits that RAFS v6 does not: 0x${unknown.toString(16)}`,
    );
  }
  if (value !== expected) {
    throw corrupt(
      STRUCTURE,
      field,
      SUPER_BLOCK_OFFSET,
      `0x${value.toString(16)} lacks bits of 0x${expected.toString(16)}`,
    );
  }
}

function readDevices(bytes: Uint8Array, view: DataView, count: number): DeviceSlot[] {
  const start = DEVICE_SLOT_OFFSET * SLOT_SIZE;
  if (count > MAX_DEVICES || start + count * SLOT_SIZE > bytes.length) {
    throw corrupt(STRUCTURE, 'extra_devices', SUPER_BLOCK_OFFSET + 86, `${count} devices, of at most ${MAX_DEVICES}`);
  }
  const devices: DeviceSlot[] = [];
  for (let i = 0; i < count; i++) {
    const offset = start + i * SLOT_SIZE;
    const tag = Buffer.from(bytes.buffer, bytes.byteOffset + offset, SLOT_TAG_SIZE).toString('latin1');
    const blocks = view.getUint32(offset + 64, true);
    if (blocks === 0) throw corrupt('EROFS device slot', 'blocks', offset + 64, 'no blocks');
    // The kernel takes addresses in [mapped, mapped + blocks) from the device, also those of the bootstrap's own data.
    const mapped = view.getUint32(offset + 68, true);
    if (mapped !== 0 && mapped < bytes.length / BLOCK_SIZE) {
      throw corrupt('EROFS device slot', 'mapped_blkaddr', offset + 68, `block ${mapped} is inside the bootstrap`);
    }
    devices.push({ offset, tag, blocks });
  }
  return devices;
}
