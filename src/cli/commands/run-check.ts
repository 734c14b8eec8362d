import { NymphError } from '../../errors.ts';
import { EXIT, type ExitCode } from '../../exit-status.ts';
import { blobTraits } from '../../image/image.ts';
import type { Context } from '../context.ts';
import { FILES_FORMAT } from '../files-inspection.ts';
import { type OpenedImage, openImage } from '../open-image.ts';
import { choiceText, coloured, plural, printable } from '../text.ts';

/** `nymph run-check`: one sentence whether the image would be mounted lazily; exit status 6 if not. */
export async function run(
  context: Context,
  reference: string,
  options: { platform?: string },
): Promise<ExitCode | undefined> {
  try {
    const opened = await openImage(context, reference, options.platform);
    const reason = lazyReason(opened);
    const { choice } = opened;
    const { digest } = opened.manifest.descriptor;
    context.print(
      { reference: opened.reference, lazy: true, reason, ...(choice ? { choice } : {}) },
      () => `${coloured('green', 'lazy')}: ${printable(reason)}${choiceText(choice, digest)}`,
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof NymphError) || error.code !== 'unsupported') throw error;
    const reason = error.message;
    context.print({ reference, lazy: false, reason, hint: error.hint }, () => {
      const hint = error.hint === undefined ? '' : `; ${error.hint}`;
      return `${coloured('yellow', 'not lazy')}: ${printable(`${reason}${hint}`)}`;
    });
    return EXIT.unsupported;
  }
}

export function lazyReason({ image, description }: OpenedImage): string {
  if (description === undefined)
    return `${FILES_FORMAT[image.format] ?? image.format}, ${plural(image.blobs.length, 'file')}, by nymph mount`;
  const trust = image.verifiable ? 'every chunk verified' : 'not every chunk can be verified';
  const traits = [...new Set(image.blobs.flatMap(blobTraits))];
  const particular = traits.length === 0 ? '' : ` (${traits.join(', ')})`;
  return `Nydus image (${description.format}), ${plural(image.blobs.length, 'blob')}${particular}, ${trust}`;
}
