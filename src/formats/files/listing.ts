import { corrupt } from '../../errors.ts';
import { type FileList, type FileNode, type ListedFile, objectOf, type StoredObject } from '../../image/files.ts';
import type { WholeDigest } from '../../image/image.ts';

const DIGEST = /^(?:(sha256):([0-9a-f]{64})|(git):([0-9a-f]{40}))$/;
const DEFAULT_MODE = 0o644;

/**
 * Reads the listing of a hub's repository (`application/vnd.nymph.files.v1+json`): JSON with `revision` and `files`.
 * @param place the hub: files with the same digest are the same, wherever in it they are
 * @param structure what is read, for errors
 * @throws NymphError `corrupt`
 */
export function filesOfListing(bytes: Uint8Array, place: string, structure: string): FileList {
  const { revision, files: listed } = parse(bytes, structure);
  const objects: StoredObject[] = [];
  const positions = new Map<string, number>();

  /** Files with the same bytes are one object. */
  const objectAt = (file: ListedFile): number => {
    if (file.size === 0) return -1;
    const { size, location } = file;
    const whole = wholeDigest(file, structure);
    const object = objectOf({ size, location, place, ...(whole && { whole }) });
    const known = positions.get(object.id);
    if (known !== undefined && objects[known].size !== size)
      throw corrupt(structure, 'size', 0, `${file.path} has ${size} bytes, and another with its digest others`);
    if (known !== undefined) return known;
    positions.set(object.id, objects.length);
    return objects.push(object) - 1;
  };

  const files = listed.map((file): FileNode => {
    const object = objectAt(file);
    const { path, size, mode = DEFAULT_MODE } = file;
    return { path, mode, uid: 0, gid: 0, mtime: 0, mtimeNs: 0, content: { kind: 'file', size, object, offset: 0 } };
  });
  return { format: 'hub', objects, files, warnings: [], ...(revision !== undefined && { revision }) };
}

function parse(bytes: Uint8Array, structure: string): { revision?: string; files: ListedFile[] } {
  let value: { schemaVersion?: unknown; revision?: unknown; files?: unknown } | null;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw corrupt(structure, 'document', 0, 'is not JSON');
  }
  const { schemaVersion, revision, files } = value ?? {};
  if (schemaVersion !== 1) throw corrupt(structure, 'schemaVersion', 0, 'is not 1');
  if (revision !== undefined && typeof revision !== 'string') throw corrupt(structure, 'revision', 0, 'is no text');
  if (!Array.isArray(files) || !files.every(isFile)) throw corrupt(structure, 'files', 0, 'is no list of files');
  return { files, ...(revision !== undefined && { revision }) };
}

function isFile(value: unknown): value is ListedFile {
  const { path, size, mode, location } = (value ?? {}) as Record<string, unknown>;
  return (
    typeof path === 'string' &&
    typeof location === 'string' &&
    Number.isSafeInteger(size) &&
    (size as number) >= 0 &&
    (mode === undefined || (Number.isInteger(mode) && (mode as number) >= 0 && (mode as number) <= 0o7777))
  );
}

function wholeDigest({ path, digest }: ListedFile, structure: string): WholeDigest | undefined {
  if (digest === undefined) return undefined;
  const match = DIGEST.exec(String(digest));
  if (match === null) throw corrupt(structure, 'digest', 0, `of ${path} is none`);
  return match[1] === undefined ? { algorithm: 'git-sha1', hex: match[4] } : { algorithm: 'sha256', hex: match[2] };
}
