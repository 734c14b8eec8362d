import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type BuildOptions, buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { createThreadPool, type ThreadPool } from '../../src/threads/pool.ts';
import { randomSeries } from '../manifest/read.ts';
import { randomTree } from '../random-tree.ts';
import { openBuilt, rowsOf } from './rafs-reading.ts';

const SEEDS = Number(process.env.NYMPH_SEEDS ?? 30);

let pool: ThreadPool;
let directory: string;
before(() => {
  pool = createThreadPool(2);
  directory = mkdtempSync(join(tmpdir(), 'nymph-property-'));
});
after(async () => {
  await pool.close();
  rmSync(directory, { recursive: true, force: true });
});

function randomOptions(seed: number): Partial<BuildOptions> & { chunkSize: number } {
  const random = randomSeries(seed + 1_000_000);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)];
  const chunkSize = pick([4096, 8192, 65536, 1 << 20]);
  const split = pick([undefined, undefined, (path: Buffer, size: number) => `${path.length % 3} ${size % 2}`]);
  return {
    chunkSize,
    compressor: pick(['zstd', 'lz4_block', 'none']),
    digester: pick(['blake3', 'sha256']),
    batchSize: pick([0, 0, 4096, chunkSize]),
    toc: pick([true, true, false]),
    ...(split ? { split } : {}),
  };
}

test('any tree that is built reads back the same', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const options = randomOptions(seed);
    const { entries, rows } = randomTree(seed, options.chunkSize);
    const about = `seed ${seed}: ${JSON.stringify(options)}`;
    const blobs = join(directory, String(seed));
    const built = await buildRafsV6(entries, { bootstrap: join(directory, 'boot'), blobs, pool, ...options });
    const { opened, image, read } = openBuilt(built, blobs);
    assert.equal(image.verifiable, true, about);
    const expected = new Map([...rows].map(([path, { mtimeNanoseconds: _, ...row }]) => [path, row]));
    assert.deepEqual(rowsOf(opened, image, read), expected, about);
    rmSync(blobs, { recursive: true });
  }
});
