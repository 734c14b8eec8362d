import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { InvalidArgumentError, Option } from 'commander';
import type { ImageOptions } from '../build/build-image.ts';
import { parseSize } from '../daemon/units.ts';
import { NymphError } from '../errors.ts';

/** Options of all commands that make images, as the command line gives them. */
export interface PackingOptions {
  compressor: 'zstd' | 'lz4_block' | 'none';
  level: number;
  chunkSize: number;
  batchSize: number;
  digester: 'blake3' | 'sha256';
  prefetch?: string;
}

const HIGHEST_ZSTD_LEVEL = 19;

export function packingOptions(): Option[] {
  return [
    new Option('--compressor <name>', 'how chunks are packed').choices(['zstd', 'lz4_block', 'none']).default('zstd'),
    new Option('--level <number>', `of zstd, 1 to ${HIGHEST_ZSTD_LEVEL}`).argParser(levelArgument).default(3),
    new Option('--chunk-size <size>', 'a power of two from 4KiB to 16MiB')
      .argParser(sizeArgument)
      .default(1 << 20, '1MiB'),
    new Option('--batch-size <size>', 'small files share frames of at most this size; 0 for none')
      .argParser(sizeArgument)
      .default(0, '0'),
    new Option('--digester <name>', 'how chunks are hashed').choices(['blake3', 'sha256']).default('blake3'),
    new Option('--prefetch <file>', 'paths to fetch first, one a line; - for standard input'),
  ];
}

/**
 * What the options mean, with the list of paths read and the time of the environment (`SOURCE_DATE_EPOCH`).
 * @throws NymphError `usage`, `not-found`
 */
export async function imageOptions(options: PackingOptions): Promise<ImageOptions> {
  const { compressor, level, chunkSize, batchSize, digester } = options;
  const prefetch = options.prefetch === undefined ? [] : await readPrefetch(options.prefetch);
  return { compressor, level, chunkSize, batchSize, digester, prefetch, buildTime: sourceDateEpoch() };
}

async function readPrefetch(file: string): Promise<'all' | Buffer[]> {
  let bytes: Buffer;
  try {
    bytes = file === '-' ? await buffer(process.stdin) : await readFile(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new NymphError(code === 'ENOENT' ? 'not-found' : 'source', `cannot read ${file}: ${code}`, { cause: error });
  }
  // As Latin-1, so that names in any encoding stay what they are.
  const paths = bytes
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '');
  return paths.includes('/') ? 'all' : paths.map((path) => Buffer.from(path, 'latin1'));
}

/** The time that builds name instead of now, seconds since 1970; 0, for none, where nobody set one. */
function sourceDateEpoch(): number {
  const text = process.env.SOURCE_DATE_EPOCH ?? '0';
  if (!/^\d{1,11}$/.test(text))
    throw new NymphError('usage', `SOURCE_DATE_EPOCH is ${JSON.stringify(text)}, which is no number of seconds`);
  return Number(text);
}

function sizeArgument(text: string): number {
  const size = parseSize(text);
  if (size === undefined) throw new InvalidArgumentError('Write a size, for example 1MiB.');
  return size;
}

function levelArgument(text: string): number {
  const level = Number(text);
  if (!/^\d+$/.test(text) || level < 1 || level > HIGHEST_ZSTD_LEVEL)
    throw new InvalidArgumentError(`Write a number from 1 to ${HIGHEST_ZSTD_LEVEL}.`);
  return level;
}
