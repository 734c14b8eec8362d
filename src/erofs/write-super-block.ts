import { COMPAT_RAFS_V6, EROFS_MAGIC, SUPER_BLOCK_OFFSET } from './super-block.ts';

/** Where the device table starts: slot 11 of 128 bytes. */
export const DEVICE_TABLE_OFFSET = 1408;
export const DEVICE_SLOT_SIZE = 128;
const BLOCK_BITS = 12;
const INCOMPAT_CHUNKED_FILE_DEVICE_TABLE = 0xc;

export interface DeviceToWrite {
  /** 64 ASCII characters. */
  tag: string;
  /** Size in blocks. */
  blocks: number;
  /** Block at which the device starts in a view that puts all devices behind each other. */
  mappedBlock: number;
}

/**
 * Writes the EROFS super-block and the device table of a RAFS v6 bootstrap (Linux `fs/erofs/erofs_fs.h`).
 * @param bytes the bootstrap, zeros at these places
 */
export function writeSuperBlock(
  bytes: Buffer,
  fields: {
    rootNid: number;
    names: number;
    /** Seconds since 1970; 0, the default, for none. */
    buildTime?: number;
    metaBlock: number;
    devices: readonly DeviceToWrite[];
  },
): void {
  const at = SUPER_BLOCK_OFFSET;
  bytes.writeUInt32LE(EROFS_MAGIC, at);
  bytes.writeUInt32LE(COMPAT_RAFS_V6, at + 8);
  bytes[at + 12] = BLOCK_BITS;
  bytes.writeUInt16LE(fields.rootNid, at + 14);
  bytes.writeBigUInt64LE(BigInt(fields.names), at + 16);
  bytes.writeBigUInt64LE(BigInt(fields.buildTime ?? 0), at + 24);
  bytes.writeUInt32LE(
    fields.devices.reduce((sum, device) => sum + device.blocks, 0),
    at + 36,
  );
  bytes.writeUInt32LE(fields.metaBlock, at + 40);
  bytes.writeUInt32LE(INCOMPAT_CHUNKED_FILE_DEVICE_TABLE, at + 80);
  bytes.writeUInt16LE(fields.devices.length, at + 86);
  bytes.writeUInt16LE(DEVICE_TABLE_OFFSET / DEVICE_SLOT_SIZE, at + 88);
  for (const [i, device] of fields.devices.entries()) {
    const slot = DEVICE_TABLE_OFFSET + i * DEVICE_SLOT_SIZE;
    bytes.write(device.tag, slot, 64, 'latin1');
    bytes.writeUInt32LE(device.blocks, slot + 64);
    bytes.writeUInt32LE(device.mappedBlock, slot + 68);
  }
}
