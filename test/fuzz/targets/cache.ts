/** The directory of the cache after damage to its files: catalogue, ledger, readiness, descriptions of images. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCache } from '../../../src/cache/open.ts';
import { setReady } from '../../../src/cache/ready-map.ts';
import type { Blob } from '../../../src/image/image.ts';
import { exampleLedgers } from '../example-ledgers.ts';
import { joinParts, splitParts } from '../parts.ts';
import { ensure, type Target } from '../target.ts';

const scratch = mkdtempSync(join(tmpdir(), 'nymph-fuzz-cache-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const template = join(scratch, 'template');
const [ledger] = exampleLedgers();
const blob: Blob = { ...ledger, storedSize: 20_000 };
const IMAGE = `sha256:${'12'.repeat(32)}` as const;
const entry = join('blobs', blob.id);
const FILES = [
  'catalogue.db',
  join(entry, 'chunks'),
  join(entry, 'ready'),
  join('images', '12'.repeat(32), 'image.json'),
];

async function makeTemplate(): Promise<void> {
  const cache = await openCache(template, { bootId: 'one' });
  const open = await cache.open(blob);
  setReady(open.ready, 0, 8192);
  cache.changed(open);
  await cache.putImage(
    { ...({ digest: IMAGE, reference: 'registry.example/app:1' } as Parameters<typeof cache.putImage>[0]) },
    Buffer.alloc(4096),
  );
  cache.putMount({ directory: '/mnt', digest: IMAGE } as Parameters<typeof cache.putMount>[0]);
  await cache.release(open);
  await cache.close();
  // Taken when it is needed, and large.
  rmSync(join(template, 'reserve'), { force: true });
}
await makeTemplate();

let serial = 0;

export const target: Target = {
  name: 'cache',
  share: 0.01,
  native: true,
  seeds: () => [joinParts(...FILES.map((file) => readFileSync(join(template, file))))],
  // Of a newer nymph's catalogue: anything else must be put right.
  errors: ['cache'],
  limit: 128 << 10,
  memory: 256 << 20,
  async run(input) {
    const root = join(scratch, String(serial++));
    try {
      mkdirSync(root);
      cpSync(template, root, { recursive: true });
      for (const [i, part] of splitParts(input, FILES.length).entries()) writeFileSync(join(root, FILES[i]), part);
      const cache = await openCache(root, { bootId: 'one' }).catch((error: Error) => {
        ensure(/ has version \d+; this nymph knows /.test(error.message), `it cannot be opened: ${error.message}`);
        throw error;
      });
      try {
        for (const image of cache.images()) ensure(typeof image.digest === 'string', 'an image without digest');
        for (const mount of cache.mounts()) ensure(typeof mount.directory === 'string', 'a mount without directory');
        cache.image(IMAGE);
        const open = await cache.open(blob);
        ensure(open.size === blob.size, 'another size');
        await cache.release(open);
        return `${cache.images().length} ${cache.mounts().length}`;
      } finally {
        await cache.close();
      }
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  },
};
