import { realpath, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { NymphError } from '../errors.ts';
import { type BuildOptions, type BuiltImage, buildRafsV6 } from '../formats/rafs/write/build.ts';
import { walkDirectory } from '../formats/rafs/write/directory.ts';
import type { SourceEntry } from '../formats/rafs/write/source.ts';
import type { Platform } from '../sources/platform.ts';
import { createThreadPool } from '../threads/pool.ts';
import { holdableAttributes, type LeftOut } from './attributes.ts';
import { createLayerTree } from './layers.ts';
import { writeOciLayout } from './oci-layout.ts';
import { openTarFile } from './tar-file.ts';
import { workDirectory } from './work-directory.ts';

/** Where an image is put. */
export type Output =
  /** `bootstrap` and `blobs/`, for `rafs:PATH`. */
  | { kind: 'folder'; path: string }
  /** An OCI layout, other images in which stay. */
  | { kind: 'layout'; path: string; tag: string; platform: Platform };

export type ImageOptions = Pick<
  BuildOptions,
  'compressor' | 'level' | 'chunkSize' | 'digester' | 'batchSize' | 'prefetch' | 'buildTime'
>;

export interface BuildControl {
  progress(progress: { stage: string; done?: number; total?: number }): void;
  signal: AbortSignal;
}

export interface BuildResult {
  image: BuiltImage;
  /** Of the manifest; only of a layout. */
  digest?: string;
  leftOut: LeftOut;
}

/**
 * Builds a RAFS v6 image from a directory or a tar. The same tree gives the same bytes, whatever it came as: a tar of a
 * directory gives what the directory gives.
 * @param source a directory, a tar file, or `-` for a tar on standard input
 * @throws NymphError
 */
export async function buildImage(
  source: string,
  output: Output,
  options: ImageOptions,
  control: BuildControl,
): Promise<BuildResult> {
  const leftOut: LeftOut = { count: 0 };
  const isDirectory = source !== '-' && (await isDirectoryPath(source));
  if (isDirectory) await requireOutside(source, output.path);
  const work = await workDirectory(output.path);
  const pool = createThreadPool(availableParallelism());
  try {
    const { entries, close } = isDirectory
      ? directoryEntries(source, control)
      : await tarEntries(source, work.path, control);
    try {
      const blobs = output.kind === 'folder' ? join(output.path, 'blobs') : join(output.path, 'blobs', 'sha256');
      const image = await buildRafsV6(holdableAttributes(entries, leftOut), {
        ...options,
        bootstrap: join(output.kind === 'folder' ? output.path : work.path, 'bootstrap'),
        blobs,
        pool,
        signal: control.signal,
        progress: (done, total) => control.progress({ stage: 'packing', done, total }),
      });
      if (output.kind === 'folder') return { image, leftOut };
      control.progress({ stage: 'writing the manifest' });
      const { os, architecture, variant } = output.platform;
      const created = options.buildTime ? { created: new Date(options.buildTime * 1000).toISOString() } : {};
      const config = { ...created, architecture, os, ...(variant ? { variant } : {}), config: {} };
      const { digest } = await writeOciLayout(output.path, image, { tag: output.tag, config });
      return { image, digest, leftOut };
    } finally {
      await close();
    }
  } finally {
    await pool.close();
    await work.remove();
  }
}

interface Entries {
  entries: AsyncIterable<SourceEntry> | Iterable<SourceEntry>;
  close(): Promise<void>;
}

function directoryEntries(source: string, { progress, signal }: BuildControl): Entries {
  async function* counted(): AsyncGenerator<SourceEntry> {
    progress({ stage: 'listing files' });
    for await (const entry of walkDirectory(source)) {
      if (signal.aborted) throw new NymphError('cancelled', 'building was cancelled');
      yield entry;
    }
  }
  return { entries: counted(), close: async () => {} };
}

async function tarEntries(source: string, directory: string, { progress, signal }: BuildControl): Promise<Entries> {
  const tar = await openTarFile(source, {
    directory,
    progress: (done) => progress({ stage: 'reading the tar', done }),
    signal,
  });
  try {
    const tree = createLayerTree();
    tree.add(tar.entries, false);
    return { entries: tree.entries(), close: tar.close };
  } catch (error) {
    await tar.close();
    throw error;
  }
}

async function isDirectoryPath(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new NymphError(code === 'ENOENT' ? 'not-found' : 'source', `cannot read ${path}: ${code}`, { cause: error });
  }
}

/** An image inside of what it is made from would find parts of itself. */
async function requireOutside(source: string, output: string): Promise<void> {
  const root = await realpath(source);
  const target = await realpath(output).catch(() => resolve(output));
  if (target === root || target.startsWith(root === '/' ? root : `${root}/`))
    throw new NymphError('usage', `the output ${output} is inside of ${source}, which it is made from`, {
      hint: 'Name an output outside of the directory.',
    });
}
