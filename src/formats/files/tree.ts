import { S_IFDIR, S_IFLNK, S_IFREG } from '../../erofs/inode.ts';
import type { Child, ErofsNode, NodeContent } from '../../erofs/write-inodes.ts';
import { corrupt } from '../../errors.ts';
import { type FileList, type FileNode, SECTOR } from '../../image/files.ts';
import { BLOCK_SIZE } from '../../image/image.ts';
import { namesOf } from './paths.ts';

/** A directory that is being filled, by name as Latin-1 text. */
interface Draft {
  node?: FileNode;
  children: Map<string, Draft>;
}

const CHUNK_FORMAT_INDEXES = 0x20;
const ADDRESS_SIZE = 8;
const MOST_SYMLINK = 4095;

/**
 * Puts files into a tree that EROFS can hold; directories that nothing names are made, `0755`. Modes lose the bits that
 * write: what is mounted is read-only. The owner is root: who built a model is nobody on this machine.
 * @returns the root, the number of names with it, and what is odd
 * @throws NymphError `corrupt` for paths that lead out of the tree, or are both file and directory
 */
export function treeOf(list: FileList, structure: string): { root: ErofsNode; names: number; warnings: string[] } {
  const warnings: string[] = [];
  const top: Draft = { children: new Map() };
  for (const file of list.files) place(top, file, structure, warnings);
  let names = 0;
  const root = nodeOf(top);
  return { root, names, warnings };

  function nodeOf(draft: Draft): ErofsNode {
    names++;
    const { node } = draft;
    const isDirectory = node === undefined || node.content.kind === 'directory';
    if (!isDirectory) return leafOf(node, structure);
    const children = Array.from(draft.children, ([name, child]): Child => ({ name, node: nodeOf(child) }));
    children.sort((a, b) => (a.name < b.name ? -1 : 1));
    const inside = children.filter((child) => (child.node.mode & S_IFDIR) === S_IFDIR).length;
    return {
      ...attributesOf(node ?? { mode: 0o755, mtime: 0, mtimeNs: 0 }, S_IFDIR, 0o555),
      nlink: 2 + inside,
      content: { kind: 'directory', children },
    };
  }
}

function place(top: Draft, file: FileNode, structure: string, warnings: string[]): void {
  const names = namesOf(file.path, structure).map((name) => Buffer.from(name).toString('latin1'));
  let at = top;
  for (const [i, name] of names.entries()) {
    let next = at.children.get(name);
    if (next === undefined) {
      next = { children: new Map() };
      at.children.set(name, next);
    }
    at = next;
    if (i < names.length - 1 && at.node !== undefined && at.node.content.kind !== 'directory')
      throw corrupt(structure, 'path', 0, `${JSON.stringify(file.path)} lies below a file`);
  }
  const isDirectory = file.content.kind === 'directory';
  if (!isDirectory && at.children.size > 0)
    throw corrupt(structure, 'path', 0, `${JSON.stringify(file.path)} is both a file and a directory`);
  if (at.node !== undefined) {
    if ((at.node.content.kind === 'directory') !== isDirectory)
      throw corrupt(structure, 'path', 0, `${JSON.stringify(file.path)} is both a file and a directory`);
    if (!isDirectory) warnings.push(`${file.path} is there twice: the later one counts`);
  }
  at.node = file;
}

function leafOf(file: FileNode, structure: string): ErofsNode {
  const { content } = file;
  if (content.kind === 'symlink') {
    const target = Buffer.from(content.target);
    if (target.length === 0 || target.length > MOST_SYMLINK || target.includes(0))
      throw corrupt(structure, 'symlink', 0, `${JSON.stringify(file.path)} has no possible target`);
    return { ...attributesOf(file, S_IFLNK, 0o777), mode: S_IFLNK | 0o777, content: { kind: 'symlink', target } };
  }
  if (content.kind !== 'file') throw corrupt(structure, 'path', 0, 'is a directory');
  return { ...attributesOf(file, S_IFREG, 0o444), content: fileContent(content) };
}

function attributesOf(
  { mode, mtime, mtimeNs }: Pick<FileNode, 'mode' | 'mtime' | 'mtimeNs'>,
  type: number,
  least: number,
): Omit<ErofsNode, 'content'> {
  // Whoever may reach the mount may read it.
  const bits = (mode & 0o555) | least;
  return { mode: type | bits, uid: 0, gid: 0, mtime, mtimeNs, nlink: 1, xattrs: [] };
}

/**
 * One address: the file is one extent of its object, from a sector on. The 16 bits of the device name the object, and no
 * index; those before them are the sectors to be added to the block.
 */
function fileContent({ size, object, offset }: { size: number; object: number; offset: number }): NodeContent {
  if (size === 0) return { kind: 'file', size, format: CHUNK_FORMAT_INDEXES, addresses: new Uint8Array(0) };
  const addresses = Buffer.alloc(ADDRESS_SIZE);
  addresses.writeUInt16LE((offset % BLOCK_SIZE) / SECTOR, 0);
  addresses.writeUInt16LE(object + 1, 2);
  addresses.writeUInt32LE(Math.floor(offset / BLOCK_SIZE), 4);
  let bits = 0;
  while (BLOCK_SIZE * 2 ** bits < size) bits++;
  return { kind: 'file', size, format: CHUNK_FORMAT_INDEXES | bits, addresses };
}
