/**
 * Inputs that are kept: `test/corpus/<target>/` has a file for each that once met a defect, and `found.tar.zst` with
 * those that reach something which no other does.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { readTarHeader, TAR_BLOCK_SIZE } from '../../src/formats/rafs/tar-header.ts';
import { tarOf } from '../../src/formats/rafs/write/tar.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import { PROJECT } from '../fixtures.ts';
import type { Target } from './target.ts';

const CORPUS = join(PROJECT, 'test', 'corpus');
const PACK = 'found.tar.zst';
const TARGETS = join(PROJECT, 'test', 'fuzz', 'targets');

/** Names of all targets. */
export function targetNames(): string[] {
  return readdirSync(TARGETS)
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.slice(0, -'.ts'.length))
    .sort();
}

export async function loadTarget(name: string): Promise<Target> {
  return ((await import(join(TARGETS, `${name}.ts`))) as { target: Target }).target;
}

export interface KeptInput {
  name: string;
  bytes: Uint8Array;
}

export function keptInputs(target: string): KeptInput[] {
  const directory = join(CORPUS, target);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .sort()
    .flatMap((name) => {
      const bytes = readFileSync(join(directory, name));
      return name === PACK ? unpack(zstdDecompressSync(bytes)) : [{ name, bytes }];
    });
}

/** Replaces what was found before. */
export function keepFound(target: string, inputs: readonly Uint8Array[]): void {
  const directory = join(CORPUS, target);
  mkdirSync(directory, { recursive: true });
  const files = inputs.map((input) => ({ name: inputName(input), content: Buffer.from(input) }));
  const options = { params: { [constants.ZSTD_c_compressionLevel]: 19, [constants.ZSTD_c_windowLog]: 24 } };
  writeFileSync(join(directory, PACK), zstdCompressSync(tarOf(files), options));
}

/** @returns the first digits of its digest */
export function inputName(input: Uint8Array): string {
  return sha256Digest(input).slice('sha256:'.length, 'sha256:'.length + 16);
}

function unpack(tar: Buffer): KeptInput[] {
  const found: KeptInput[] = [];
  for (let at = 0; ; ) {
    const header = readTarHeader(tar, at);
    if (header === undefined) return found;
    const start = at + TAR_BLOCK_SIZE;
    found.push({ name: header.name, bytes: tar.subarray(start, start + header.size) });
    at = start + Math.ceil(header.size / TAR_BLOCK_SIZE) * TAR_BLOCK_SIZE;
  }
}
