import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { corrupt, NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import type { StoredImage } from './cache.ts';
import type { Catalogue } from './catalogue.ts';
import type { EntryRecord } from './entry.ts';
import { type Log, messageOf } from './health.ts';
import { bytesOnDisk, imageDirectory, type Layout, OCI_DIGEST, parseKey } from './layout.ts';
import { decodeLedger } from './ledger-file.ts';
import type { Trash } from './trash.ts';

/**
 * Brings catalogue and directories to agree, before anything is served: directories win. A row without its directory is
 * dropped; a directory without a row is taken in if it says what it is, and discarded otherwise.
 */
export async function recoverBlobs(
  layout: Layout,
  catalogue: Catalogue,
  trash: Trash,
  log: Log,
): Promise<EntryRecord[]> {
  const rows = new Map(catalogue.blobs().map((row) => [row.key, row]));
  const records: EntryRecord[] = [];
  for (const key of await readdir(layout.blobs)) {
    const directory = join(layout.blobs, key);
    try {
      const name = parseKey(key);
      if (!name) throw corrupt('cache directory', 'name', 0, 'not the name of an entry');
      const row = rows.get(key) ?? (await adopt(catalogue, directory, key));
      const files = ['data', 'ready', 'chunks', 'dictionaries'].map((file) => join(directory, file));
      await stat(files[0]);
      records.push({ ...name, ...row, bytes: await bytesOnDisk(...files) });
      rows.delete(key);
    } catch (error) {
      if (!isWorthless(error)) throw error;
      log('warn', 'a directory of the cache is discarded', { directory, error: messageOf(error) });
      await trash.discard(directory);
    }
  }
  for (const row of rows.values()) catalogue.removeBlob(row.ino);
  return records;
}

async function adopt(catalogue: Catalogue, directory: string, key: string) {
  const { ino } = decodeLedger(await readFile(join(directory, 'chunks')));
  const { mtimeMs } = await stat(join(directory, 'ready'));
  const row = { ino, key, lastUsed: Math.floor(mtimeMs) };
  catalogue.adoptBlob(row);
  return row;
}

/** The same for images. @returns bytes on disk of each */
export async function recoverImages(
  layout: Layout,
  catalogue: Catalogue,
  trash: Trash,
  log: Log,
): Promise<Map<OciDigest, number>> {
  const rows = new Set(catalogue.images().map((image) => image.digest));
  const sizes = new Map<OciDigest, number>();
  for (const name of await readdir(layout.images)) {
    const digest: OciDigest = `sha256:${name}`;
    const directory = join(layout.images, name);
    const description = join(directory, 'image.json');
    const bootstrap = join(directory, 'bootstrap');
    try {
      if (!OCI_DIGEST.test(digest)) throw corrupt('cache directory', 'name', 0, 'not the name of an image');
      await stat(bootstrap);
      if (!rows.has(digest)) {
        const image = JSON.parse(await readFile(description, 'utf8')) as StoredImage | null;
        if (image?.digest !== digest) throw corrupt('image.json', 'digest', 0, 'describes another image');
        catalogue.putImage(image);
      }
      sizes.set(digest, await bytesOnDisk(bootstrap, description));
    } catch (error) {
      if (!isWorthless(error)) throw error;
      log('warn', 'a directory of the cache is discarded', { directory, error: messageOf(error) });
      await trash.discard(imageDirectory(layout, digest));
    }
  }
  for (const digest of rows) if (!sizes.has(digest)) catalogue.removeImage(digest);
  return sizes;
}

/** What the error says about a directory: that it is of no use. A failing disk or catalogue says nothing about it. */
function isWorthless(error: unknown): boolean {
  if (error instanceof SyntaxError) return true;
  if (error instanceof NymphError) return error.code === 'corrupt';
  // Another entry has its number: one of the two is a copy.
  if (error instanceof Database.SqliteError) return error.code.startsWith('SQLITE_CONSTRAINT');
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
