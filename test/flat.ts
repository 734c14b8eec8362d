/**
 * Blobs of an image as flat files: every chunk decoded and checked. With them the kernel's EROFS driver mounts a
 * bootstrap without any daemon, which shows whether an image is right.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { digestEquals, digestOf } from '../src/codec/digest.ts';
import { decodeFrame } from '../src/codec/frame.ts';
import { openBootstrap, type ReadResult, readImage } from '../src/formats/rafs/bootstrap.ts';
import { chunkInfoFromBlob, chunkInfoRange } from '../src/formats/rafs/chunk-info.ts';
import { type Blob, CODECS, type DigestAlgorithm } from '../src/image/image.ts';
import { MS_RDONLY, mount, umount } from '../src/mount/kernel.ts';

/**
 * @param bootstrap path
 * @param blobs directory with the blobs' objects, named by their ids
 * @param flat directory to make, for the flat files: `<blob id>`
 * @returns what the project's reader says about the image
 */
export function flattenBlobs(bootstrap: string, blobs: string, flat: string): ReadResult {
  const opened = openBootstrap(readFileSync(bootstrap));
  const chunkInfo = new Map(
    opened.blobs
      .filter((blob) => blob.needsChunkInfo)
      .map((blob) => {
        const { offset, length } = chunkInfoRange(blob);
        return [blob.id, chunkInfoFromBlob(blob, readRange(join(blobs, blob.id), offset, length))] as const;
      }),
  );
  const result = readImage(opened, { chunkInfo });
  mkdirSync(flat, { recursive: true });
  for (const blob of result.image.blobs) flattenBlob(blob, join(blobs, blob.id), join(flat, blob.id));
  return result;
}

function flattenBlob(blob: Blob, object: string, flat: string): void {
  const { chunks, frames } = blob;
  const fd = openSync(flat, 'w');
  ftruncateSync(fd, blob.size);
  const input = openSync(object, 'r');
  let frame = -1;
  let decoded = new Uint8Array();
  for (let i = 0; i < chunks.count; i++) {
    if (chunks.frame[i] !== frame) {
      frame = chunks.frame[i];
      const stored = Buffer.alloc(frames.size[frame]);
      if (readSync(input, stored, 0, stored.length, frames.offset[frame]) !== stored.length)
        throw new Error(`${object} ends inside frame ${frame}`);
      decoded = Uint8Array.from(decodeFrame(CODECS[frames.codec[frame]], stored, frames.decodedSize[frame]));
    }
    const content = decoded.subarray(chunks.frameOffset[i], chunks.frameOffset[i] + chunks.size[i]);
    if (!digestEquals(chunks.digest, i, digestOf(blob.digestAlgorithm as DigestAlgorithm, content)))
      throw new Error(`chunk ${i} of ${object} has another digest`);
    writeSync(fd, content, 0, content.length, chunks.offset[i]);
  }
  closeSync(input);
  closeSync(fd);
}

function readRange(path: string, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const fd = openSync(path, 'r');
  const read = readSync(fd, bytes, 0, length, offset);
  closeSync(fd);
  return bytes.subarray(0, read);
}

/** Why the kernel cannot mount a bootstrap from a plain file here, or null. */
export function missingErofs(): string | null {
  if (process.getuid!() !== 0) return 'mounting needs root';
  if (!/\terofs$/m.test(readFileSync('/proc/filesystems', 'utf8')) && spawnSync('modprobe', ['erofs']).status !== 0)
    return 'the kernel has no EROFS';
  return null;
}

/**
 * Mounts a bootstrap over flat files with the kernel's EROFS driver. Root only.
 * @param devices flat files, in the order of the device table
 * @throws Error with the kernel's refusal
 */
export async function mountFlat(bootstrap: string, devices: readonly string[], target: string): Promise<void> {
  mkdirSync(target, { recursive: true });
  const data = [...devices.map((device) => `device=${device}`), 'directio'].join(',');
  const refusal = await mount(bootstrap, target, 'erofs', MS_RDONLY, data);
  if (refusal) throw new Error(`mounting ${bootstrap}: ${refusal.name}`);
}

export async function unmountFlat(target: string): Promise<void> {
  const refusal = await umount(target);
  if (refusal) throw new Error(`unmounting ${target}: ${refusal.name}`);
}
