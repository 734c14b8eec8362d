/** Building an image against packing the same tree with tar and zstd. */

import { existsSync } from 'node:fs';
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeManyFiles, noiseBytes, textBytes } from '../test/tree.ts';
import type { Lab } from './lab.ts';
import type { LocalOptions } from './local.ts';
import type { Place } from './place.ts';
import { shell } from './processes.ts';
import type { Trial } from './report.ts';

const PROGRAM = fileURLToPath(new URL('../bin/nymph', import.meta.url));
const LEVEL = 3;
const MIB = 1 << 20;

/** Measures throughput over one tree of about 1 GB, page cache warm for both, the output on the same file system. */
export async function buildTrial(
  lab: Lab,
  place: Place,
  { rounds, quick }: LocalOptions,
  say: (line: string) => void,
): Promise<Trial> {
  const files = quick ? 500 : 20_000;
  const bigBytes = (quick ? 10 : 400) * MIB;
  const tree = await sourceTree(join(place.kept, quick ? 'build-source-quick' : 'build-source'), files, bigBytes);
  const threads = availableParallelism();
  const out = join(place.scratch, 'build');
  await rm(out, { recursive: true, force: true });
  await mkdir(out);
  lab.later(() => rm(out, { recursive: true, force: true }));
  const contenders = {
    nymph: () => shell(`${PROGRAM} build ${tree} -o ${join(out, 'image')} --level ${LEVEL}`),
    tar: () => shell(`tar -C ${tree} -cf - . | zstd -q -f -${LEVEL} -T${threads} -o ${join(out, 'tar.zst')}`),
  };
  await shell(`tar -C ${tree} -cf - . | cat`);
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const times = { nymph: 0, tar: 0 };
    const order = round % 2 === 0 ? (['nymph', 'tar'] as const) : (['tar', 'nymph'] as const);
    for (const name of order) {
      times[name] = await contenders[name]();
      await rm(join(out, 'image'), { recursive: true, force: true });
      await rm(join(out, 'tar.zst'), { force: true });
      // What one has written must not be written back while the other is measured.
      await shell('sync');
    }
    ratios.push(times.tar / times.nymph);
    say(`build: nymph ${Math.round(times.nymph)} ms, tar and zstd ${Math.round(times.tar)} ms`);
  }
  return {
    name: 'build',
    text: `**build**: \`nymph build\` (whole command) of ${files.toLocaleString('en')} files of up to 96 KiB and one of ${bigBytes / MIB} MiB, against \`tar | zstd -${LEVEL} -T${threads}\` of the same tree; page cache warm.`,
    rows: [
      {
        work: `\`build\`, zstd level ${LEVEL}, ${threads} threads`,
        against: '`tar \\| zstd`',
        unit: 'throughput',
        ratios,
        goal: { least: 0.8 },
      },
    ],
  };
}

async function sourceTree(directory: string, files: number, bigBytes: number): Promise<string> {
  const tree = join(directory, 'tree');
  const stamp = join(directory, 'done');
  if (existsSync(stamp)) return tree;
  await rm(directory, { recursive: true, force: true });
  await mkdir(tree, { recursive: true });
  makeManyFiles(tree, { count: files, maxSize: 96 << 10, seed: 7 });
  await writeMixed(join(tree, 'big'), bigBytes);
  await writeFile(stamp, '');
  return tree;
}

/** Text, and every fourth MiB noise. No MiB is like the one before: zstd on a stream would find that, but no chunk can. */
async function writeMixed(path: string, size: number): Promise<void> {
  await using file = await open(path, 'w');
  for (let i = 0; i < size / MIB; i++) await file.write(i % 4 === 3 ? noiseBytes(MIB, i) : textBytes(MIB, i));
}
