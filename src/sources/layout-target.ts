import { createHash } from 'node:crypto';
import { link, mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { MANIFEST_LIMIT, OCI_INDEX, parseJsonObject } from './descriptor.ts';
import { digestHex } from './digest.ts';
import { readSmallFile } from './file-source.ts';
import { REF_NAME } from './layout.ts';
import { formatReference, type LayoutReference } from './reference.ts';
import { cancelled } from './retry.ts';
import type { BlobToPut, Target } from './target.ts';

type Entry = { digest?: unknown; annotations?: Record<string, string> };

let serial = 0;

/** An OCI image layout to write to (image-spec "Image Layout"); made where there is none. Other images in it stay. */
export function openLayoutTarget(reference: LayoutReference): Target {
  const { path } = reference;
  const objects = join(path, 'blobs', 'sha256');
  const placeOf = (digest: OciDigest) => join(objects, digestHex(digest));
  const draft = () => join(objects, `.${process.pid}-${++serial}.tmp`);

  const exists = async (digest: OciDigest): Promise<boolean> => {
    try {
      return (await stat(placeOf(digest))).isFile();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
  };

  const copy = async (blob: BlobToPut, signal: AbortSignal): Promise<void> => {
    const file = draft();
    try {
      const hash = createHash('sha256');
      let size = 0;
      {
        await using handle = await open(file, 'wx');
        for await (const bytes of await blob.read(0, signal)) {
          if (signal.aborted) throw cancelled(`blob ${blob.digest}`);
          hash.update(bytes);
          for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
          size += bytes.length;
          blob.progress?.(size);
        }
      }
      if (size !== blob.size || `sha256:${hash.digest('hex')}` !== blob.digest)
        throw new NymphError('corrupt', `blob ${blob.digest} came with other bytes`);
      await rename(file, placeOf(blob.digest));
    } catch (error) {
      await rm(file, { force: true });
      throw error;
    }
  };

  /** @returns whether the file could be taken over as it is */
  const takeOver = async (file: string, digest: OciDigest): Promise<boolean> => {
    try {
      await link(file, placeOf(digest));
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return true;
      // Another file system, or one without links.
      if (code === 'EXDEV' || code === 'EPERM' || code === 'EMLINK' || code === 'EOPNOTSUPP') return false;
      throw error;
    }
  };

  const replace = async (place: string, bytes: Uint8Array): Promise<void> => {
    const file = draft();
    await writeFile(file, bytes);
    await rename(file, place);
  };

  const readIndex = async (signal: AbortSignal): Promise<Record<string, unknown> & { manifests: Entry[] }> => {
    const what = `OCI layout ${path} (index.json)`;
    const bytes = await readSmallFile(join(path, 'index.json'), what, {}, MANIFEST_LIMIT, signal).catch((error) => {
      if (error instanceof NymphError && error.code === 'not-found') return undefined;
      throw error;
    });
    const index = bytes ? parseJsonObject(bytes, what) : { schemaVersion: 2, mediaType: OCI_INDEX };
    return { ...index, manifests: Array.isArray(index.manifests) ? (index.manifests as Entry[]) : [] };
  };

  return {
    kind: 'layout',
    reference: formatReference(reference),
    async put(blob, signal) {
      return guarded(path, async () => {
        await mkdir(objects, { recursive: true });
        if (await exists(blob.digest)) return 'present';
        if (!blob.file || !(await takeOver(blob.file, blob.digest))) await copy(blob, signal);
        return 'sent';
      });
    },
    async putManifest({ descriptor, bytes }, { tag, subject }, signal) {
      await guarded(path, async () => {
        await mkdir(objects, { recursive: true });
        await replace(placeOf(descriptor.digest), bytes);
        // Children of an index are found through it.
        if (tag === undefined && subject === undefined) return;
        const index = await readIndex(signal);
        const entry =
          tag === undefined
            ? descriptor
            : { ...descriptor, annotations: { ...descriptor.annotations, [REF_NAME]: tag } };
        const others = index.manifests.filter(({ digest, annotations }) => {
          const name = annotations?.[REF_NAME];
          return tag === undefined ? name !== undefined || digest !== descriptor.digest : name !== tag;
        });
        await replace(join(path, 'oci-layout'), Buffer.from(JSON.stringify({ imageLayoutVersion: '1.0.0' })));
        await replace(
          join(path, 'index.json'),
          Buffer.from(JSON.stringify({ ...index, manifests: [...others, entry] })),
        );
      });
    },
    close: async () => {},
  };
}

async function guarded<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof NymphError) throw error;
    throw new NymphError('source', `cannot write to the OCI layout ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
