/** The compress job: encodes frames. */
import type { JobResult } from '../../../threads/job.ts';
import { type Compressor, compressFrame } from './compress.ts';

export interface CompressRequest {
  from: SharedArrayBuffer;
  /** Start and length in `from` of each part. */
  parts: Uint32Array;
  /** How many parts each frame is made of. */
  frames: Uint32Array;
  compressor: Compressor;
  level: number;
  /** Gets the frames as they are stored, behind each other from `offset` on: never more bytes than the parts have. */
  into: SharedArrayBuffer;
  offset: number;
}

export interface CompressOutcome {
  /** Stored size of each frame. */
  sizes: Uint32Array;
  /** 1 where compressing made the frame smaller. */
  compressed: Uint8Array;
}

export function run(request: CompressRequest): JobResult<CompressOutcome> {
  const { parts, frames, compressor, level, offset } = request;
  const from = Buffer.from(request.from);
  const into = Buffer.from(request.into);
  const sizes = new Uint32Array(frames.length);
  const compressed = new Uint8Array(frames.length);
  let part = 0;
  let at = offset;
  for (const [i, count] of frames.entries()) {
    const contents: Uint8Array[] = [];
    for (const end = part + count; part < end; part++)
      contents.push(from.subarray(parts[part * 2], parts[part * 2] + parts[part * 2 + 1]));
    const content = contents.length === 1 ? contents[0] : Buffer.concat(contents);
    const stored = compressFrame(compressor, content, level, into.subarray(at));
    at += stored.size;
    sizes[i] = stored.size;
    compressed[i] = stored.compressed ? 1 : 0;
  }
  return { output: { sizes, compressed } };
}
