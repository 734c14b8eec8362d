/** Images by the builder, with what belongs to them: small ones, in memory. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BuildOptions, buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { contentOf, type SourceEntry } from '../../src/formats/rafs/write/source.ts';
import { encrypted } from '../encrypted-image.ts';
import { makeZranImage, type ZranImageOptions } from '../zran-image.ts';

export interface BuiltExample {
  bootstrap: Buffer;
  /** The object with the blob's data. */
  object: Buffer;
  /** Content of `image/<id>.blob.meta`, and the id. */
  meta: Buffer;
  id: string;
}

const FILE = 0o100644;

function filler(length: number, start: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => ((i * 31 + start) ^ (i >> 4)) & 0x3f));
}

function tree(): SourceEntry[] {
  return [
    { path: 'a', mode: FILE, ...contentOf(filler(300, 1)) },
    { path: 'b', mode: FILE, ...contentOf(filler(900, 2)), xattrs: [{ name: 'user.a', value: Buffer.from('b') }] },
    { path: 'd', mode: 0o040755 },
    { path: 'd/c', mode: FILE, ...contentOf(filler(9000, 3)) },
    { path: 'd/e', mode: FILE, ...contentOf(Buffer.alloc(10, 7)) },
    { path: 'l', mode: 0o120777, target: 'd/c' },
  ];
}

function inDirectory<T>(make: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-examples-'));
  const clean = () => rmSync(directory, { recursive: true });
  const made = make(directory);
  if (made instanceof Promise) return made.finally(clean) as T;
  clean();
  return made;
}

export async function builtExample(options: Partial<BuildOptions>): Promise<BuiltExample> {
  return inDirectory(async (directory) => {
    const bootstrap = join(directory, 'bootstrap');
    const { blobs } = await buildRafsV6(tree(), { bootstrap, blobs: directory, chunkSize: 4096, ...options });
    const [{ id, meta }] = blobs;
    return { bootstrap: readFileSync(bootstrap), object: readFileSync(join(directory, id)), meta, id };
  });
}

/** As `nydus-image create -E` makes it. */
export async function encryptedExample(options: Partial<BuildOptions>): Promise<BuiltExample> {
  const { bootstrap, object, meta } = await builtExample({ ...options, toc: false });
  return { ...encrypted(bootstrap, object, Buffer.alloc(32, 'k').fill('K', 16), Buffer.alloc(16, 5)), meta };
}

/** Over a gzip layer; the object is the one with the chunk information. */
export function zranExample(options: Partial<ZranImageOptions>): BuiltExample {
  const files = [
    { name: 'a', content: filler(20_000, 1) },
    { name: 'b', content: Buffer.from(Array.from({ length: 30_000 }, (_, i) => (i * i * 7 + (i >> 3)) & 0xff)) },
  ];
  return inDirectory((directory) => {
    const made = makeZranImage(directory, 'example', files, { distance: 8000, chunkSize: 8192, ...options });
    return { bootstrap: made.bootstrap, object: made.meta, meta: made.layerMeta, id: made.metaId };
  });
}
