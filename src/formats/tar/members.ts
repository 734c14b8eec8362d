import { isUtf8 } from 'node:buffer';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../erofs/inode.ts';
import { corrupt, NymphError } from '../../errors.ts';
import type { FileNode } from '../../image/files.ts';
import { readTar, type TarBytes, type TarEntry } from './read.ts';

/** A file, directory or symlink of a tar. The content of a file is at `offset` of the tar, whole sectors of 512 bytes. */
export interface TarMember extends Omit<FileNode, 'content'> {
  readonly content:
    | { readonly kind: 'directory' }
    | { readonly kind: 'symlink'; readonly target: string }
    | { readonly kind: 'file'; readonly size: number; readonly offset: number };
}

/** More names than any model has; each is held in memory. */
const MOST_MEMBERS = 1 << 20;

/**
 * What a tar holds whose files are served as they stand in it. Only headers are looked at.
 * @param name of the tar, for errors
 * @throws NymphError `corrupt` for a damaged tar, names that lead upwards or are absolute, links that lead out of the tree;
 *   `unsupported` for sparse files, devices, and more names than a model has
 */
export async function tarMembers(tar: TarBytes, name: string): Promise<TarMember[]> {
  const members: TarMember[] = [];
  const files = new Map<string, TarMember['content']>();
  const input = {
    get position() {
      return tar.position;
    },
    take: tar.take,
    skip: tar.skip,
    async keep(length: number, map?: object): Promise<number> {
      if (map !== undefined)
        throw new NymphError('unsupported', `${name} has a sparse file before byte ${tar.position}`);
      const at = tar.position;
      await tar.skip(length);
      return at;
    },
  };
  for await (const entry of readTar<number>(input)) {
    if (members.length === MOST_MEMBERS)
      throw new NymphError('unsupported', `${name} holds more than ${MOST_MEMBERS} files`);
    const path = textOf(entry.name, name);
    if (path.startsWith('/') || path.split('/').includes('..'))
      throw corrupt(name, 'name', tar.position, `${JSON.stringify(path.slice(0, 200))} leads out of the tree`);
    // The root itself: its attributes are nobody's.
    if (entry.path.length === 0) continue;
    const { uid = 0, gid = 0, mtime = 0, mtimeNs = 0 } = entry;
    const content = contentOf(entry, path, files, name);
    if (content.kind === 'file') files.set(entry.path.toString(), content);
    members.push({ path: entry.path.toString(), mode: entry.mode & 0o777, uid, gid, mtime, mtimeNs, content });
  }
  if (tar.position === 0) throw corrupt(name, 'size', 0, 'it is empty, and no tar');
  return members;
}

function contentOf(
  { mode, size = 0, content = 0, target, linkTo }: TarEntry<number>,
  path: string,
  files: ReadonlyMap<string, TarMember['content']>,
  name: string,
): TarMember['content'] {
  if (linkTo !== undefined) {
    const linked = files.get(textOf(Buffer.from(linkTo), name));
    if (linked === undefined) throw corrupt(name, 'linkname', 0, `${show(path)} is a link to what is not there`);
    return linked;
  }
  const type = mode & S_IFMT;
  if (type === S_IFDIR) return { kind: 'directory' };
  if (type === S_IFREG) return { kind: 'file', size, offset: content };
  if (type === S_IFLNK && target !== undefined) {
    const text = textOf(Buffer.from(target), name);
    if (leadsOut(path, text))
      throw corrupt(name, 'linkname', 0, `${show(path)} leads out of the tree, to ${show(text)}`);
    return { kind: 'symlink', target: text };
  }
  throw new NymphError('unsupported', `${name} holds ${show(path)}, which is no file, directory or symlink`);
}

/** Whether a symlink leads out of the tree, or may: behind a name, which may be another link, `..` can mean any directory. */
function leadsOut(path: string, target: string): boolean {
  if (target.startsWith('/')) return true;
  const depth = namesOf(path).length - 1;
  const names = namesOf(target);
  const upwards = names.lastIndexOf('..') + 1;
  return upwards > depth || names.slice(0, upwards).some((part) => part !== '..');
}

function namesOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

function textOf(bytes: Buffer, name: string): string {
  if (!isUtf8(bytes)) throw corrupt(name, 'name', 0, `${show(bytes.toString('latin1'))} is not UTF-8`);
  return bytes.toString();
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}
