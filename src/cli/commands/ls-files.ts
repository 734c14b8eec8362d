import { formatSize } from '../../daemon/units.ts';
import { isOfFiles } from '../../image/image.ts';
import type { Context } from '../context.ts';
import { openImage } from '../open-image.ts';
import { table } from '../text.ts';
import { type TreeFile, treeFiles } from '../tree-files.ts';

const KIND = { file: '-', directory: 'd', symlink: 'l', other: '?' } as const;

/** `nymph ls --files`: what is in an image, by its manifest and bootstrap; in this process. */
export async function run(context: Context, reference: string): Promise<undefined> {
  const opened = await openImage(context, reference);
  const files = treeFiles(opened.bootstrap, isOfFiles(opened.image)).map(({ blob: _, ...file }) => file);
  const { reference: name } = opened;
  context.print({ reference: name, digest: opened.manifest.descriptor.digest, files }, () =>
    table([['MODE', 'SIZE', 'MODIFIED', 'PATH'], ...files.map(row)], [1]),
  );
}

function row({ path, type, mode, size, mtime, target }: TreeFile): string[] {
  const bits = mode.toString(8).padStart(4, '0');
  const time = mtime === 0 ? '-' : new Date(mtime * 1000).toISOString().slice(0, 19);
  return [`${KIND[type]}${bits}`, formatSize(size), time, target === undefined ? path : `${path} -> ${target}`];
}
