import { formatSize } from '../daemon/units.ts';
import type { ModelDescription } from '../formats/modelpack/description.ts';
import { type Guarantee, guaranteeOf } from '../image/image.ts';
import type { OpenedImage } from '../mount/open.ts';
import { coloured, count, fields, table } from './text.ts';
import { type TreeFile, treeFiles } from './tree-files.ts';

/** What `nymph inspect` tells of an image that is files as they stand; printed as it is with `--json`. Sizes in bytes. */
export interface FilesInspection {
  reference: string;
  kind: string;
  digest: string;
  mediaType: string;
  format: string;
  /** The commit of a hub's repository. */
  revision?: string;
  /** What its configuration says: nobody checks whether it is so. */
  model?: ModelDescription;
  /** `guarantee`: what is sure of what a reader gets. */
  files: (TreeFile & { guarantee?: Guarantee })[];
  totals: { files: number; size: number };
  integrity: { chunk: number; file: number; none: number; statement: string };
  warnings: string[];
}

/** What people call a format. */
export const FILES_FORMAT: Record<string, string> = {
  modelpack: 'ModelPack artifact',
  modelkit: 'ModelKit',
  artifact: 'OCI artifact',
  hub: 'hub repository',
};

export function inspectFiles(opened: OpenedImage): FilesInspection {
  const { image, manifest, warnings = [] } = opened;
  const guarantees = image.blobs.map(guaranteeOf);
  const files = treeFiles(opened.bootstrap, true).map(({ blob, ...file }) => ({
    ...file,
    ...(blob !== undefined && { guarantee: guarantees[blob] }),
  }));
  const by = (wanted: Guarantee) => files.filter(({ guarantee }) => guarantee === wanted).length;
  const counts = { chunk: by('chunk'), file: by('file'), none: by('none') };
  const regular = files.filter(({ type }) => type === 'file');
  return {
    reference: opened.reference,
    kind: opened.kind,
    digest: manifest.descriptor.digest,
    mediaType: manifest.descriptor.mediaType,
    format: image.format,
    ...(opened.revision !== undefined && { revision: opened.revision }),
    ...(opened.model !== undefined && { model: opened.model }),
    files,
    totals: { files: regular.length, size: regular.reduce((sum, { size }) => sum + size, 0) },
    integrity: { ...counts, statement: statementOf(counts) },
    warnings,
  };
}

function statementOf({ chunk, file, none }: { chunk: number; file: number; none: number }): string {
  const parts: string[] = [];
  if (chunk > 0) parts.push(`${count(chunk)} small or unpacked: verified against a digest before a byte is served.`);
  if (file > 0)
    parts.push(
      `${count(file)} large: served as they come, and checked against the digest of their layer as soon as it is complete; a wrong one is removed, and reads of it fail from then on. With --strict nothing is read before the check.`,
    );
  if (none > 0) parts.push(`${count(none)} without a digest: never checked.`);
  return parts.length === 0 ? 'There is nothing to check.' : `Files: ${parts.join(' ')}`;
}

export function filesText(inspection: FilesInspection): string {
  const { totals, files, warnings } = inspection;
  return [
    fields([
      ['reference', inspection.reference],
      ['read from', inspection.kind],
      ['digest', inspection.digest],
      ['media type', inspection.mediaType],
      ['format', FILES_FORMAT[inspection.format] ?? inspection.format],
      ['revision', inspection.revision],
      ...modelFields(inspection.model),
      ['files', `${count(totals.files)}; ${formatSize(totals.size)}`],
      ['integrity', inspection.integrity.statement],
      ...warnings.map((warning): [string, string] => ['odd', warning]),
    ]),
    `\n${coloured('bold', 'files')}`,
    table(
      [
        ['SIZE', 'CHECKED', 'PATH'],
        ...files.map((file) => [formatSize(file.size), whenChecked(file.guarantee), file.path]),
      ],
      [0],
    ),
  ].join('\n');
}

function modelFields(model: ModelDescription = {}): [string, string | undefined][] {
  const { title, version, parameters } = model;
  const named = [title ?? model.name, version].filter((part) => part !== undefined).join(' ');
  return [
    ['model', named === '' ? undefined : named],
    ['description', model.description],
    ['family', model.family],
    ['architecture', model.architecture],
    ['weights', model.format],
    ['parameters', parameters],
    ['precision', model.precision],
    ['quantization', model.quantization],
    ['licence', model.licenses?.join(', ')],
    ['by', [model.vendor, ...(model.authors ?? [])].filter((part) => part !== undefined).join(', ') || undefined],
    ['source', model.source],
    ['created', model.created],
  ];
}

function whenChecked(guarantee: Guarantee | undefined): string {
  if (guarantee === undefined) return '-';
  return { chunk: 'before', file: 'complete', none: 'never' }[guarantee];
}
