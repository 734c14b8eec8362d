import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import type { PrefetchResult } from '../../daemon/api.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import { NymphError } from '../../errors.ts';
import { isDigest } from '../../sources/digest.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { count, plural, printable } from '../text.ts';
import { readTrace, type TraceInput } from '../trace-input.ts';

export interface PrefetchOptions {
  from: string;
  platform?: string;
}

/** `nymph prefetch`: fetches what a trace names. */
export async function run(context: Context, name: string | undefined, options: PrefetchOptions): Promise<undefined> {
  const input = readTrace(await contentOf(options.from), options.from);
  const target = targetOf(name, input, options.from);
  const client = await context.daemon();
  const view = progressView();
  try {
    const { digest, trace, files } = input;
    const request = { target, platform: options.platform, digest, trace, files };
    const result = await client.prefetch(request, view.update);
    view.clear();
    context.print(result, () => resultText(result));
  } finally {
    view.clear();
  }
}

async function contentOf(file: string): Promise<string> {
  if (file === '-') return readAll(process.stdin);
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new NymphError('not-found', `cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`, {
      hint: 'Write one with `nymph trace --json IMAGE > FILE`.',
      cause: error,
    });
  }
}

function targetOf(name: string | undefined, { reference }: TraceInput, file: string): string {
  const target = name ?? reference;
  if (target === undefined)
    throw new NymphError('usage', `${file} does not say of which image it is`, {
      hint: 'Name the image, or the directory of its mount, behind it.',
    });
  if (isDigest(target)) return target;
  // As `nymph verify` tells them apart.
  return name !== undefined && /^[/.]/.test(name) ? resolve(name) : canonicalReference(target);
}

function resultText({ reference, bytes, fetched, files, missing, milliseconds }: PrefetchResult): string {
  const what = files === undefined ? formatSize(bytes) : `${plural(files, 'file')} (${formatSize(bytes)})`;
  const lines = [
    `${what} of ${printable(reference)} here; ${formatSize(fetched)} fetched in ${formatDuration(milliseconds)}`,
  ];
  if (missing !== undefined)
    lines.push(
      `not in the image: ${missing.slice(0, 5).map(printable).join(', ')}${missing.length > 5 ? `, and ${count(missing.length - 5)} more` : ''}`,
    );
  return lines.join('\n');
}
