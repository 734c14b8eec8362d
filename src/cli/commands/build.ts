import { type BuildResult, buildImage, type Output } from '../../build/build-image.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import { NymphError } from '../../errors.ts';
import { machinePlatform, parsePlatform } from '../../sources/platform.ts';
import { parseReference } from '../../sources/reference.ts';
import { imageOptions, type PackingOptions } from '../build-options.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { count, plural, printable } from '../text.ts';

/** What `nymph build --json` prints. Sizes in bytes. */
export interface BuildReport {
  output: string;
  /** Of the manifest; only of an OCI layout. */
  digest?: string;
  blobs: { id: string; size: number; uncompressedSize: number; chunks: number }[];
  /** Names in the tree, the root's included. */
  names: number;
  /** Bytes of all files, and of what is stored of them. */
  content: number;
  stored: number;
  duplicates: { chunks: number; bytes: number };
  /** Extended attributes that EROFS has no place for. */
  attributesLeftOut: number;
  milliseconds: number;
}

/** `nymph build`: in this process, without a daemon. */
export async function run(
  context: Context,
  source: string,
  options: PackingOptions & { output: string; platform?: string },
): Promise<undefined> {
  if (source === '-' && options.prefetch === '-')
    throw new NymphError('usage', 'standard input cannot be both the tar and the list of paths');
  const output = parseOutput(options.output, options.platform);
  const started = performance.now();
  const view = progressView();
  try {
    const signal = context.interruption();
    const result = await buildImage(source, output, await imageOptions(options), { progress: view.update, signal });
    view.clear();
    const report = reportOf(options.output, result, performance.now() - started);
    context.print(report, () => textOf(report, result));
  } catch (error) {
    view.clear();
    throw error;
  }
}

function parseOutput(text: string, platform: string | undefined): Output {
  const wanted = platform === undefined ? machinePlatform() : parsePlatform(platform);
  const reference = parseReference(/^(oci|rafs):/.test(text) ? text : `rafs:${text}`);
  if (reference.kind === 'folder' && platform === undefined) return { kind: 'folder', path: reference.path };
  if (reference.kind === 'layout' && !reference.digest)
    return { kind: 'layout', path: reference.path, tag: reference.tag ?? 'latest', platform: wanted };
  throw new NymphError('usage', `${text} cannot be the output${platform ? ' with --platform' : ''}`, {
    hint: 'Write a folder, or `oci:PATH:TAG` for an OCI layout.',
  });
}

function reportOf(output: string, { image, digest, leftOut }: BuildResult, milliseconds: number): BuildReport {
  return {
    output,
    ...(digest ? { digest } : {}),
    blobs: image.blobs.map(({ id, size, uncompressedSize, chunks }) => ({ id, size, uncompressedSize, chunks })),
    names: image.names,
    content: image.content,
    stored: image.blobs.reduce((sum, blob) => sum + blob.size, 0),
    duplicates: image.duplicates,
    attributesLeftOut: leftOut.count,
    milliseconds: Math.round(milliseconds),
  };
}

function textOf(report: BuildReport, { leftOut }: BuildResult): string {
  const { content, stored, duplicates } = report;
  const lines = [
    `built ${printable(report.output)}${report.digest ? `@${report.digest}` : ''} in ${formatDuration(report.milliseconds)}`,
    `  ${plural(report.names, 'name')}, ${formatSize(content)} in files, ${formatSize(stored)} stored${content > 0 ? ` (${Math.round((stored / content) * 100)}%)` : ''}`,
  ];
  if (duplicates.chunks > 0)
    lines.push(`  ${formatSize(duplicates.bytes)} were there before (${count(duplicates.chunks)} chunks)`);
  if (leftOut.count > 0)
    lines.push(
      `  left out: ${plural(leftOut.count, 'extended attribute')} that EROFS has no place for, the first ${printable(leftOut.first!)}`,
    );
  return lines.join('\n');
}
