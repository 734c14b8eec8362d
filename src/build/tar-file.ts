import { type FileHandle, open } from 'node:fs/promises';
import { createByteReader } from '../codec/byte-reader.ts';
import { decompress, SNIFF_SIZE, sniffCodec } from '../codec/decompress.ts';
import { NymphError } from '../errors.ts';
import { readTar, type TarEntry, type TarInput } from '../formats/tar/read.ts';
import { createSpool } from './spool.ts';
import { fileTarInput, streamTarInput } from './tar-input.ts';

/** The members of a tar, with content that can be read until it is closed. */
export interface OpenTar {
  entries: TarEntry[];
  close(): Promise<void>;
}

export interface TarOptions {
  /** For content that must be put aside: all of it where the tar is packed or a stream. */
  directory: string;
  /** Told now and then: bytes of the tar as it came. */
  progress?(bytes: number): void;
  signal?: AbortSignal;
}

/**
 * Reads a tar: plain, gzip or zstd. Of a plain file only the headers.
 * @param path `-` for standard input
 * @throws NymphError `corrupt`, `unsupported`, `not-found`, `source`
 */
export async function openTarFile(path: string, options: TarOptions): Promise<OpenTar> {
  if (path === '-') return openTarStream(process.stdin, 'standard input', options);
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new NymphError(code === 'ENOENT' ? 'not-found' : 'source', `cannot read ${path}: ${code}`, { cause: error });
  }
  try {
    const stats = await file.stat();
    const start = Buffer.alloc(SNIFF_SIZE);
    if (stats.isFile()) {
      const { bytesRead } = await file.read(start, 0, SNIFF_SIZE, 0);
      if (sniffCodec(start.subarray(0, bytesRead), path) === 'none') return await openPlain(file, stats.size, options);
    }
    // Its descriptor is not needed any longer: the content has been put aside.
    const tar = await openTarStream(
      file.createReadStream({ autoClose: false, highWaterMark: 256 << 10 }),
      path,
      options,
    );
    await file.close();
    return tar;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Reads a tar that comes as a stream, to the stream's end. @param name for errors */
export async function openTarStream(
  stream: AsyncIterable<Uint8Array>,
  name: string,
  options: TarOptions,
): Promise<OpenTar> {
  const spool = await createSpool(options.directory);
  try {
    const reader = createByteReader(counted(stream, options));
    const start = await reader.take(SNIFF_SIZE);
    const codec = sniffCodec(start, name);
    async function* whole(): AsyncGenerator<Uint8Array> {
      yield start;
      for (let piece = await reader.some(Infinity); piece; piece = await reader.some(Infinity)) yield piece;
    }
    const input = streamTarInput(decompress(whole(), codec, name), spool);
    const entries = await all(input, name);
    // What stands behind the end has no meaning, but belongs to the stream: its digest, and the checksum of its codec.
    while (await input.some(Infinity));
    await spool.finish();
    return { entries, close: spool.close };
  } catch (error) {
    await spool.close();
    throw error;
  }
}

async function openPlain(file: FileHandle, size: number, options: TarOptions): Promise<OpenTar> {
  const spool = await createSpool(options.directory);
  try {
    const entries = await all(fileTarInput(file, size, spool), 'the tar');
    await spool.finish();
    return {
      entries,
      close: async () => {
        await spool.close();
        await file.close();
      },
    };
  } catch (error) {
    await spool.close();
    throw error;
  }
}

async function all(input: TarInput, name: string): Promise<TarEntry[]> {
  const entries: TarEntry[] = [];
  for await (const entry of readTar(input)) entries.push(entry);
  if (input.position === 0) throw new NymphError('corrupt', `${name} is empty, and no tar`);
  return entries;
}

async function* counted(
  stream: AsyncIterable<Uint8Array>,
  { progress, signal }: TarOptions,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const piece of stream) {
    if (signal?.aborted) throw new NymphError('cancelled', 'reading the tar was cancelled');
    bytes += piece.length;
    progress?.(bytes);
    yield piece;
  }
}
