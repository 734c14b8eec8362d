import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../../../erofs/inode.ts';
import type { ErofsNode } from '../../../erofs/write-inodes.ts';
import { NymphError } from '../../../errors.ts';
import type { SourceEntry } from './source.ts';

/** A regular file, whose content is still to be stored. */
export interface SourceFile {
  node: ErofsNode;
  /** The first of its names, from `/` on. */
  path: Buffer;
  size: number;
  entry: SourceEntry;
}

export interface SourceTree {
  root: ErofsNode;
  /** In the order of the tree: by the bytes of the names, directory by directory. */
  files: SourceFile[];
  /** Names, the root's included. */
  names: number;
  hasXattrs: boolean;
  /** @returns the inode that a path leads to, or undefined */
  find(path: Buffer | string): ErofsNode | undefined;
}

interface Draft {
  entry: SourceEntry;
  /** Made when the first comes: most names are no directories. */
  children?: Map<string, Draft>;
  /** Further names of it. */
  links: number;
}

const NAME_MAX = 255;
const SYMLINK_MAX = 4095;

/**
 * Makes a tree of entries in any order. A parent that no entry describes is a directory 0755 of root with time 0.
 * @throws NymphError `usage` for an entry that contradicts itself or another one, `unsupported` for what RAFS cannot hold
 */
export async function makeTree(entries: AsyncIterable<SourceEntry> | Iterable<SourceEntry>): Promise<SourceTree> {
  const root = draft({ path: '', mode: S_IFDIR | 0o755 });
  const described = new Set<Draft>();
  for await (const entry of entries) {
    let at = root;
    for (const name of namesOf(entry.path)) {
      at.children ??= new Map();
      let next = at.children.get(name);
      if (!next) {
        next = draft({ path: name, mode: S_IFDIR | 0o755 });
        at.children.set(name, next);
      }
      at = next;
    }
    if (described.has(at)) throw new NymphError('usage', `two entries describe ${show(entry.path)}`);
    described.add(at);
    at.entry = entry;
  }
  if ((root.entry.mode & S_IFMT) !== S_IFDIR) throw new NymphError('usage', 'the root of a tree must be a directory');
  return finish(root);
}

function draft(entry: SourceEntry): Draft {
  return { entry, links: 0 };
}

function finish(rootDraft: Draft): SourceTree {
  const nodes = new Map<Draft, ErofsNode>();
  const files: SourceFile[] = [];
  const tree = { names: 0, hasXattrs: false };

  const findDraft = (path: Buffer | string): Draft | undefined => {
    let at: Draft | undefined = rootDraft;
    for (const name of namesOf(path)) at = at?.children?.get(name);
    return at;
  };
  /** The draft that holds the inode of a name. */
  const holder = (name: Draft): Draft => {
    if (name.entry.linkTo === undefined) return name;
    const target = findDraft(name.entry.linkTo);
    if (!target || target.entry.linkTo !== undefined || (target.entry.mode & S_IFMT) === S_IFDIR)
      throw new NymphError(
        'usage',
        `${show(name.entry.path)} is a link to ${show(name.entry.linkTo)}, which is no file`,
      );
    return target;
  };

  // Children before parents would need recursion; a stack of open directories does without.
  const order: { draft: Draft; path: Buffer }[] = [];
  const stack = [{ draft: rootDraft, path: Buffer.alloc(0) }];
  for (let at = stack.pop(); at; at = stack.pop()) {
    order.push(at);
    tree.names++;
    const { draft: current, path } = at;
    if (current.entry.linkTo !== undefined) holder(current).links++;
    if (current.children && (current.entry.linkTo !== undefined || (current.entry.mode & S_IFMT) !== S_IFDIR))
      throw new NymphError('usage', `${show(path)} is no directory, but has children`);
    const names = [...(current.children?.keys() ?? [])].map((name) => Buffer.from(name, 'latin1')).sort(Buffer.compare);
    for (const name of names.reverse()) {
      const child = current.children!.get(name.toString('latin1'))!;
      stack.push({ draft: child, path: Buffer.concat([path, Buffer.from('/'), name]) });
    }
  }
  for (const { draft: current, path } of order) {
    const target = holder(current);
    if (nodes.has(target)) continue;
    const node = makeNode(target, path);
    nodes.set(target, node);
    if (node.xattrs.length > 0) tree.hasXattrs = true;
    if (node.content.kind === 'file') files.push({ node, path, size: node.content.size, entry: target.entry });
  }
  for (const { draft: current } of order) {
    const node = nodes.get(holder(current))!;
    if (node.content.kind !== 'directory') continue;
    const children = [...(current.children ?? [])].map(([name, child]) => ({
      name,
      node: nodes.get(holder(child))!,
    }));
    children.sort((a, b) => (a.name < b.name ? -1 : 1));
    node.nlink = 2 + children.filter((child) => child.node.content.kind === 'directory').length;
    node.content = { kind: 'directory', children };
  }
  const find = (path: Buffer | string): ErofsNode | undefined => {
    const found = findDraft(path);
    return found && nodes.get(holder(found));
  };
  return { root: nodes.get(rootDraft)!, files, ...tree, find };
}

function makeNode({ entry, links }: Draft, path: Buffer): ErofsNode {
  return {
    mode: entry.mode,
    uid: entry.uid ?? 0,
    gid: entry.gid ?? 0,
    mtime: entry.mtime ?? 0,
    mtimeNs: entry.mtimeNs ?? 0,
    nlink: 1 + links,
    xattrs: (entry.xattrs ?? [])
      .map(({ name, value }) => ({ name: Buffer.from(name), value }))
      .sort((a, b) => Buffer.compare(a.name, b.name)),
    content: contentOf(entry, path),
  };
}

function contentOf(entry: SourceEntry, path: Buffer): ErofsNode['content'] {
  switch (entry.mode & S_IFMT) {
    case S_IFDIR:
      return { kind: 'directory', children: [] };
    case S_IFREG: {
      const size = entry.size ?? 0;
      if (size > 0 && !entry.content) throw new NymphError('usage', `${show(path)} has a size, but no content`);
      return { kind: 'file', size, format: 0, addresses: new Uint8Array() };
    }
    case S_IFLNK: {
      const target = Buffer.from(entry.target ?? '');
      if (target.length === 0 || target.length > SYMLINK_MAX || target.includes(0))
        throw new NymphError('unsupported', `the target of symlink ${show(path)} has ${target.length} bytes, or a NUL`);
      return { kind: 'symlink', target };
    }
    case S_IFCHR:
    case S_IFBLK:
      return { kind: 'special', device: encodeDevice(entry.device ?? { major: 0, minor: 0 }, path) };
    case S_IFIFO:
    case S_IFSOCK:
      return { kind: 'special', device: 0 };
    default:
      throw new NymphError('usage', `${show(path)}: mode 0o${entry.mode.toString(8)} has no known type`);
  }
}

/** Linux `new_encode_dev`: 12 bits of the major and 20 of the minor number. */
function encodeDevice({ major, minor }: { major: number; minor: number }, path: Buffer): number {
  if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff)
    throw new NymphError('unsupported', `device ${major}:${minor} of ${show(path)} does not fit in EROFS`);
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

/** Names of a path, as Latin-1 text so that any bytes can be keys. */
function namesOf(path: Buffer | string): string[] {
  const names = Buffer.from(path)
    .toString('latin1')
    .split('/')
    .filter((name) => name !== '');
  for (const name of names)
    if (name === '.' || name === '..' || name.length > NAME_MAX || name.includes('\0'))
      throw new NymphError('usage', `${show(path)} cannot be a path in an image`);
  return names;
}

function show(path: Buffer | string): string {
  return JSON.stringify(path.toString());
}
