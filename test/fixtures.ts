/** Where test images are: the project's own `fixtures/`, and a larger shared set that not every machine has. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { zstdDecompressSync } from 'node:zlib';

/** The project's root directory. */
export const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));

/** The project's own fixtures; `fixtures/README.md` says what each is. */
export const FIXTURES = join(PROJECT, 'fixtures');

/** OCI layout with the tag `nydus`, and its manifest. */
export const APP_LAYOUT = join(FIXTURES, 'oci', 'app');
export const APP_MANIFEST = join(FIXTURES, 'manifests', 'app.jsonl.gz');

/** @returns the path of a file of the larger set, or null where that set is absent: then a test must skip aloud */
export function sharedFixture(...path: string[]): string | null {
  const full = join(process.env.NYMPH_SHARED ?? join(PROJECT, '..', 'shared'), 'fixtures', ...path);
  return existsSync(full) ? full : null;
}

/**
 * Unpacks `kinds.tar.zst` into a directory, which is made. Needs `tar`.
 * @returns paths of what it holds
 */
export function unpackKinds(directory: string): {
  manifest: string;
  bootstrap: string;
  blobs: string;
  encryptedBootstrap: string;
} {
  mkdirSync(directory, { recursive: true });
  const input = zstdDecompressSync(readFileSync(join(FIXTURES, 'kinds.tar.zst')));
  const tar = spawnSync('tar', ['-xf', '-', '-C', directory, '--no-same-owner'], { input });
  if (tar.error) throw tar.error;
  if (tar.status !== 0) throw new Error(`tar cannot unpack kinds.tar.zst: ${tar.stderr}`);
  return {
    manifest: join(directory, 'kinds.jsonl'),
    bootstrap: join(directory, 'v6-zstd-batch', 'bootstrap'),
    blobs: join(directory, 'v6-zstd-batch', 'blobs'),
    encryptedBootstrap: join(directory, 'v6-encrypt', 'bootstrap'),
  };
}
