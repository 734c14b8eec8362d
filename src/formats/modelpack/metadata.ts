/** What the annotation of a layer tells of its file; absent where it does not say, or says nonsense. */
export interface FileMetadata {
  name?: string;
  mode?: number;
  size?: number;
  mtime?: number;
  mtimeNs?: number;
  type?: 'file' | 'directory' | 'symlink';
}

const KEYS = [
  'org.cncf.model.file.metadata+json',
  'org.cnai.model.file.metadata+json',
  // v0.0.4 alone.
  'org.cnai.model.file.metadata',
];
const MOST_BYTES = 64 << 10;
/** Seconds in which a time of RFC 3339 can lie: years 1 to 9999. */
const TIME = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)$/;

/** Numeric in the specification; some writers put the character of a tar header there. */
const TYPES = new Map<unknown, FileMetadata['type']>([
  [0, 'file'],
  [48, 'file'],
  [5, 'directory'],
  [53, 'directory'],
  [2, 'symlink'],
  [50, 'symlink'],
]);

/**
 * Reads the file metadata of a layer (model-spec "Layer Annotation Keys"). A hint only: what is wrong in it is left out,
 * and nothing that matters for safety depends on it.
 */
export function fileMetadata(annotations: Record<string, string>): FileMetadata {
  const text = KEYS.map((key) => annotations[key]).find((value) => value !== undefined);
  if (text === undefined || text.length > MOST_BYTES) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof value !== 'object' || value === null) return {};
  const { name, mode, size, mtime, typeflag } = value as Record<string, unknown>;
  const type = TYPES.get(typeflag);
  return {
    ...(typeof name === 'string' && { name }),
    ...(isCount(mode) && mode !== 0 && { mode: mode & 0o777 }),
    ...(isCount(size) && { size }),
    ...(typeof mtime === 'string' && timeOf(mtime)),
    ...(type && { type }),
  };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** RFC 3339, with a fraction as long as Go writes it; empty if it is no time. */
function timeOf(text: string): Pick<FileMetadata, 'mtime' | 'mtimeNs'> {
  const match = TIME.exec(text);
  if (!match) return {};
  const milliseconds = Date.parse(text.replace(/\.\d+/, '').replace(/[ t]/, 'T'));
  if (!Number.isFinite(milliseconds)) return {};
  return { mtime: Math.floor(milliseconds / 1000), mtimeNs: Number((match[7] ?? '').padEnd(9, '0')) };
}
