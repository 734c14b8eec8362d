/** A large gzip layer with a ZRAN image over it. */
import { createHash, hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, createGzip } from 'node:zlib';
import { tarHeader } from '../src/formats/rafs/write/tar.ts';
import type { Context, Piece } from '../test/zran.ts';
import { writeZranImage } from '../test/zran-image.ts';

export interface LargeLayer {
  /** OCI layout with the tag `zran`. */
  layout: string;
  /** The gzip layer, and bytes of the one file in it, `data`. */
  layer: string;
  size: number;
}

const MIB = 1 << 20;
const WINDOW = 32 << 10;

/** Makes it in `kept`, unless it is there: half a minute for 1 GiB. */
export async function largeLayer(kept: string, quick: boolean): Promise<LargeLayer> {
  const count = quick ? 128 : 1024;
  const home = join(kept, quick ? 'zran-quick' : 'zran');
  const layout = join(home, 'layout');
  const size = count * MIB;
  const objects = join(layout, 'blobs', 'sha256');
  const finished = join(home, 'finished');
  if (existsSync(finished)) return { layout, layer: join(objects, await readFile(finished, 'utf8')), size };
  await rm(home, { recursive: true, force: true });
  await mkdir(objects, { recursive: true });

  const pieces: Piece[] = [];
  const contexts: Context[] = [];
  const digests: Buffer[] = [];
  const draft = join(home, 'layer.tar.gz');
  const file = await open(draft, 'w');
  const digest = createHash('sha256');
  const gzip = createGzip({ level: 6 });
  const arrived: Buffer[] = [];
  gzip.on('data', (bytes: Buffer) => arrived.push(bytes));
  let stored = 0;
  const drain = async () => {
    for (const bytes of arrived.splice(0)) {
      digest.update(bytes);
      await file.write(bytes);
      stored += bytes.length;
    }
  };
  /** Up to the end of a block on a byte: what comes next can be decoded from there, with what came last as dictionary. */
  const write = async (bytes: Buffer) => {
    gzip.write(bytes);
    await new Promise<void>((resolve) => gzip.flush(constants.Z_SYNC_FLUSH, resolve));
    await drain();
  };
  let last = tarHeader('data', size, 0o644);
  await write(last);
  for (let i = 0; i < count; i++) {
    const content = text(i);
    const decoded = 512 + i * MIB;
    const start = { offset: stored, bits: 0, byte: 0, decoded };
    const dictionary = last.subarray(Math.max(0, last.length - WINDOW));
    await write(content);
    pieces.push({ offset: decoded, size: MIB });
    contexts.push({ start, size: stored - start.offset, decodedSize: MIB, dictionary });
    digests.push(hash('sha256', content, 'buffer'));
    last = content;
  }
  gzip.end(Buffer.alloc(1024));
  await new Promise((resolve) => gzip.once('end', resolve));
  await drain();
  await file.close();
  const id = digest.digest('hex');
  await rename(draft, join(objects, id));
  writeZranImage(
    layout,
    'zran',
    [{ name: 'data', mode: 0o100644, size, chunks: pieces.map((_, i): [number, number] => [0, i]) }],
    { id, size: stored, digests: Buffer.concat(digests), pieces, contexts, contextOf: pieces.map((_, i) => i) },
    { chunkSize: MIB, toc: true },
  );
  await writeFile(finished, id);
  return { layout, layer: join(objects, id), size };
}

/** 1 MiB that shrinks to about a third, another for each number, the same each time. */
function text(number: number): Buffer {
  const out = Buffer.alloc(MIB);
  let seed = number * 7919 + 1;
  for (let at = 0; at < MIB; at += 16) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    out.write(
      `${(seed % 9973).toString(36).padStart(4, 'v')} item ${(seed >> 12) % 97} `.padEnd(16, '.'),
      at,
      16,
      'latin1',
    );
  }
  return out;
}
