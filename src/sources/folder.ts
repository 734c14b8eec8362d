import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { OCI_MANIFEST } from './descriptor.ts';
import { digestHex, isDigest, sha256Digest } from './digest.ts';
import { fileSize, openFileSource, readSmallFile } from './file-source.ts';
import { type FolderReference, formatReference } from './reference.ts';
import { cancelled } from './retry.ts';
import type { Manifest, Repository, Source } from './source.ts';

/** A folder as `nydus-image create` writes it: `bootstrap` and `blobs/<id>`, or only blobs, with the bootstrap in one. */
export interface Folder {
  readonly path: string;
  /** The `bootstrap` file, whole; `undefined` if there is none: it is inside a blob then. */
  bootstrap(signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /** Blobs by id, ascending, with their sizes in bytes. */
  blobs(): Promise<FolderBlob[]>;
  /** A blob for range reads. @param id 64 hex digits */
  open(id: string, size?: number): Source;
}

export interface FolderBlob {
  id: string;
  size: number;
}

/** A bootstrap is held in memory as a whole; larger ones do not occur (an inode takes some 100 bytes). */
export const BOOTSTRAP_LIMIT = 512 * 1024 * 1024;
/** Enough of a blob's end to hold its table of contents, which names the digest of an inline bootstrap. */
const TAIL = 64 * 1024;

/** Media types of the manifest that stands for a folder. */
export const FOLDER_BOOTSTRAP = 'application/vnd.nymph.rafs.bootstrap';
export const FOLDER_BLOB = 'application/vnd.nymph.rafs.blob';

export function openFolder(path: string): Folder {
  return {
    path,
    async bootstrap(signal = new AbortController().signal) {
      const file = join(path, 'bootstrap');
      try {
        return await readSmallFile(file, file, {}, BOOTSTRAP_LIMIT, signal);
      } catch (error) {
        if (!(error instanceof NymphError) || error.code !== 'not-found') throw error;
        // A folder without `blobs` either is no RAFS folder at all.
        if (await hasBlobs(path)) return undefined;
        throw new NymphError('not-found', `${path} is not a RAFS folder: it has no \`bootstrap\` and no \`blobs\``, {
          hint: 'Name the folder that holds `bootstrap` and `blobs/`.',
          cause: error,
        });
      }
    },
    async blobs() {
      const names = await readdir(join(path, 'blobs')).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return [];
        throw new NymphError('source', `cannot list ${join(path, 'blobs')}: ${error.code}`, { cause: error });
      });
      const ids = names.filter((name) => /^[0-9a-f]{64}$/.test(name)).sort();
      const blobs: FolderBlob[] = [];
      for (const id of ids) blobs.push({ id, size: await fileSize(join(path, 'blobs', id), `blob ${id} in ${path}`) });
      return blobs;
    },
    open(id, size) {
      if (!/^[0-9a-f]{64}$/.test(id)) throw new NymphError('internal', `not a blob id: ${id.slice(0, 80)}`);
      return openFileSource('folder', join(path, 'blobs', id), `blob ${id} in ${path}`, size);
    },
  };
}

/**
 * A folder as a repository. Its manifest is made up from the files, so that the same files have the same digest: layers
 * are the blobs ({@link FOLDER_BLOB}) and then the bootstrap as it is ({@link FOLDER_BOOTSTRAP}), if there is one.
 * A blob's digest is `sha256:<id>` by name only: nobody has hashed the file, and `get` works for the bootstrap alone.
 */
export function openFolderRepository(reference: FolderReference): Repository {
  const folder = openFolder(reference.path);

  const resolve = async (signal: AbortSignal): Promise<Manifest> => {
    const bootstrap = await folder.bootstrap(signal);
    const layers: object[] = [];
    for (const { id, size } of await folder.blobs()) {
      if (signal.aborted) throw cancelled(formatReference(reference));
      const tail = bootstrap ? undefined : await tailDigest(join(folder.path, 'blobs', id), size);
      layers.push({ mediaType: FOLDER_BLOB, digest: `sha256:${id}`, size, ...(tail ? { annotations: { tail } } : {}) });
    }
    if (bootstrap)
      layers.push({ mediaType: FOLDER_BOOTSTRAP, digest: sha256Digest(bootstrap), size: bootstrap.length });
    const manifest = {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      artifactType: 'application/vnd.nymph.rafs.folder',
      layers,
    };
    const bytes = Buffer.from(JSON.stringify(manifest));
    return { descriptor: { mediaType: OCI_MANIFEST, digest: sha256Digest(bytes), size: bytes.length }, bytes };
  };

  return {
    kind: 'folder',
    reference: formatReference(reference),
    resolve,
    async manifest(digest, signal) {
      const manifest = await resolve(signal);
      if (manifest.descriptor.digest === digest) return manifest;
      throw new NymphError(
        'not-found',
        `${formatReference(reference)} has no manifest ${digest}: its files have changed`,
      );
    },
    async get({ digest, size }, limit, signal) {
      const file = join(folder.path, 'bootstrap');
      return readSmallFile(file, `bootstrap ${digest} (${file})`, { digest, size }, limit, signal);
    },
    open: ({ digest, size }) => folder.open(idOf(digest), size),
    close: async () => {},
  };
}

function idOf(digest: OciDigest): string {
  if (!isDigest(digest)) throw new NymphError('internal', `not a digest: ${String(digest).slice(0, 80)}`);
  return digestHex(digest);
}

async function hasBlobs(path: string): Promise<boolean> {
  return readdir(join(path, 'blobs')).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false;
      throw new NymphError('source', `cannot list ${join(path, 'blobs')}: ${error.code}`, { cause: error });
    },
  );
}

async function tailDigest(file: string, size: number): Promise<OciDigest> {
  await using handle = await open(file, 'r');
  const length = Math.min(TAIL, size);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
  return sha256Digest(buffer.subarray(0, bytesRead));
}
