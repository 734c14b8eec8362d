import { chmod, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../cache/health.ts';
import { type Directories, FS_MODE } from './directories.ts';
import type { Layer } from './lazy.ts';
import { mountsOf } from './overlay.ts';
import type { Mount } from './snapshotter.ts';

/**
 * Layers of an ordinary image whose Nydus image is mounted in its place. The uppermost layer stands for the whole image;
 * the others, its pieces, have no files of their own. Where another image builds on one, its layer is unpacked after all.
 */
export interface Pieces {
  /** Resolves when the directory of a piece holds its files. @param below what it builds on, as `Lowers.directories` */
  unpacked(piece: Layer, below: readonly string[]): Promise<void>;
}

export interface PiecesOptions {
  directories: Pick<Directories, 'place' | 'fs' | 'work'>;
  overlayOptions: readonly string[];
  /** Has a layer unpacked on mounts, by containerd. */
  unpack: (piece: Layer, mounts: Mount[]) => Promise<void>;
  log: Log;
}

/** Beside `fs`: what is being unpacked, and the mark that `fs` is whole. */
const DRAFT = 'draft';
const WHOLE = 'whole';

export function createPieces({ directories, overlayOptions, unpack, log }: PiecesOptions): Pieces {
  const running = new Map<number, Promise<void>>();

  async function work(piece: Layer, below: readonly string[]): Promise<void> {
    const place = directories.place(piece.id);
    if (await exists(join(place, WHOLE))) return;
    log('info', 'a layer that was left out is unpacked: another image builds on it', { snapshot: piece.name });
    const [draft, fs, workdir] = [join(place, DRAFT), directories.fs(piece.id), directories.work(piece.id)];
    for (const path of [draft, fs, workdir]) await rm(path, { recursive: true, force: true });
    for (const path of [draft, workdir]) await mkdir(path);
    await chmod(draft, FS_MODE);
    await unpack(
      piece,
      mountsOf({ kind: 'active', labels: {}, upper: draft, work: workdir, lowers: below, options: overlayOptions }),
    );
    await rename(draft, fs);
    // Until now nobody has used it, and whoever was cut off begins anew.
    await writeFile(join(place, WHOLE), '');
  }

  return {
    unpacked(piece, below) {
      let mine = running.get(piece.id);
      if (mine === undefined) {
        mine = work(piece, below).finally(() => running.delete(piece.id));
        running.set(piece.id, mine);
      }
      return mine;
    },
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
