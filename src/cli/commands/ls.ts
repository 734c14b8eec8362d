import type { ImageInfo, MountInfo } from '../../daemon/api.ts';
import { formatSize } from '../../daemon/units.ts';
import type { Context } from '../context.ts';
import { percent, table } from '../text.ts';

const HEADING = ['REFERENCE', 'DIRECTORY', 'KIND', 'READY', 'SIZE', 'STATE', 'DIGEST'];

/** `nymph ls`: one row for each mount, and one for each image that is mounted nowhere; or the files of one. */
export async function run(context: Context, options: { files?: string }): Promise<undefined> {
  if (options.files !== undefined) return (await import('./ls-files.ts')).run(context, options.files);
  const client = await context.daemon();
  const [mounts, images] = await Promise.all([client.mounts(), client.images()]);
  context.print({ mounts, images }, () => (mounts.length + images.length === 0 ? '' : listText(mounts, images)));
}

function listText(mounts: readonly MountInfo[], images: readonly ImageInfo[]): string {
  const byDigest = new Map(images.map((image) => [image.digest, image]));
  const mounted = new Set(mounts.map((mount) => mount.digest));
  const rows = mounts.map((mount) =>
    row(
      nameOf(mount),
      mount.digest,
      byDigest.get(mount.digest),
      mount.directory,
      mount.kind,
      stateText(mount, byDigest.get(mount.digest)),
    ),
  );
  for (const image of images)
    if (!mounted.has(image.digest))
      rows.push(row(nameOf(image), image.digest, image, '-', '-', image.pinned ? 'pinned' : '-'));
  return table([HEADING, ...rows.sort((a, b) => (a[0] + a[1] < b[0] + b[1] ? -1 : 1))], [3, 4]);
}

function nameOf({ reference, subset }: MountInfo | ImageInfo): string {
  return subset === undefined ? reference : `${reference} (${subset.join(',')})`;
}

function stateText({ state, reason }: MountInfo, image: ImageInfo | undefined): string {
  const text = reason === undefined ? state : `${state} (${reason})`;
  return image?.pinned ? `${text}, pinned` : text;
}

function row(
  reference: string,
  digest: string,
  image: ImageInfo | undefined,
  directory: string,
  kind: string,
  state: string,
): string[] {
  const ready = image === undefined ? '-' : percent(image.ready, image.size);
  const size = image === undefined ? '-' : formatSize(image.size);
  return [reference, directory, kind, ready, size, state, digest.replace(/^sha256:/, '').slice(0, 12)];
}
