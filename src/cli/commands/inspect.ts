import { formatSize } from '../../daemon/units.ts';
import type { Context } from '../context.ts';
import { filesText, inspectFiles } from '../files-inspection.ts';
import { type BlobInspection, type Inspection, inspectImage } from '../inspection.ts';
import { openImage } from '../open-image.ts';
import { coloured, count, fields, plural, table } from '../text.ts';

/** `nymph inspect`: reads the manifest and the bootstrap, no data; in this process. */
export async function run(context: Context, reference: string, options: { platform?: string }): Promise<undefined> {
  const opened = await openImage(context, reference, options.platform, true);
  if (opened.description === undefined) {
    const files = inspectFiles(opened);
    context.print(files, () => filesText(files));
    return;
  }
  const inspection = inspectImage(opened, opened.description);
  context.print(inspection, () => inspectionText(inspection));
}

function inspectionText(inspection: Inspection): string {
  const { bootstrap, totals, prefetch } = inspection;
  return [
    fields([
      ['reference', inspection.reference],
      ['read from', inspection.kind],
      ['digest', inspection.digest],
      ['chosen', chosenText(inspection.choice)],
      ['media type', inspection.mediaType],
      ['format', `${inspection.format}, chunks of ${formatSize(bootstrap.chunkSize)}`],
      [
        'bootstrap',
        `${formatSize(bootstrap.size)}; compressor ${bootstrap.compressor}, digester ${bootstrap.digester}`,
      ],
      ['flags', bootstrap.flags.length === 0 ? 'none' : bootstrap.flags.join(', ')],
      ['built', bootstrap.buildTime === undefined ? undefined : new Date(bootstrap.buildTime * 1000).toISOString()],
      ['inodes', `${count(totals.inodes)}: ${countsText(bootstrap.counts)}`],
      [
        'files',
        `${formatSize(bootstrap.counts.fileBytes)}; ${formatSize(totals.size)} in ${plural(totals.chunks, 'chunk')}`,
      ],
      ['stored', `${formatSize(totals.storedSize)} in ${plural(inspection.blobs.length, 'blob')}`],
      [
        'prefetch',
        prefetch === 'all'
          ? 'all'
          : `${plural(prefetch.ranges, 'range')}${prefetch.ranges ? `, ${formatSize(prefetch.size)}` : ''}`,
      ],
      ['integrity', inspection.integrity.statement],
    ]),
    heading('layers', inspection.layers.length),
    ...(inspection.layers.length === 0 ? [] : [layerTable(inspection)]),
    heading('blobs', inspection.blobs.length),
    ...(inspection.blobs.length === 0 ? [] : [blobTable(inspection.blobs)]),
  ].join('\n');
}

function chosenText(choice: Inspection['choice']): string | undefined {
  if (choice === undefined) return undefined;
  const { by, ordinary } = choice;
  return by === 'index' ? `from an index, instead of ${ordinary}` : `as a referrer of ${ordinary}`;
}

function countsText(counts: Inspection['bootstrap']['counts']): string {
  const parts: [number, string, string][] = [
    [counts.directories, 'directory', 'directories'],
    [counts.files, 'file', 'files'],
    [counts.symlinks, 'symlink', 'symlinks'],
    [counts.devices, 'device', 'devices'],
    [counts.fifos, 'fifo', 'fifos'],
    [counts.sockets, 'socket', 'sockets'],
    [counts.hardLinks, 'hard link', 'hard links'],
    [counts.withXattrs, 'with extended attributes', 'with extended attributes'],
  ];
  const shown = parts.filter(([number]) => number > 0);
  return shown.map(([number, one, many]) => `${count(number)} ${number === 1 ? one : many}`).join(', ');
}

function heading(title: string, rows: number): string {
  return `\n${coloured('bold', title)}${rows === 0 ? ': none' : ''}`;
}

function layerTable(inspection: Inspection): string {
  const rows = inspection.layers.map((layer) => [layer.role, formatSize(layer.size), layer.digest, layer.mediaType]);
  return table([['ROLE', 'SIZE', 'DIGEST', 'MEDIA TYPE'], ...rows], [1]);
}

function blobTable(blobs: readonly BlobInspection[]): string {
  const rows = blobs.map((blob) => [
    blob.id,
    formatSize(blob.size),
    formatSize(blob.storedSize),
    count(blob.chunks),
    count(blob.frames),
    Object.entries(blob.codecs)
      .map(([codec, frames]) => `${codec} ${count(frames)}`)
      .join(', '),
    blob.digestAlgorithm,
    blob.features.length === 0 ? '-' : blob.features.join(', '),
  ]);
  return table(
    [['BLOB', 'SIZE', 'STORED', 'CHUNKS', 'FRAMES', 'CODECS', 'DIGESTS', 'FEATURES'], ...rows],
    [1, 2, 3, 4],
  );
}
