import { S_IFDIR, S_IFLNK, S_IFMT } from '../erofs/inode.ts';
import { NymphError } from '../errors.ts';
import type { SourceEntry } from '../formats/rafs/write/source.ts';
import { cleanPath, type TarEntry } from '../formats/tar/read.ts';

/** A tree that tars are unpacked into, one over the other, as a container runtime would do it on disk. */
export interface LayerTree {
  /**
   * Unpacks one tar: what comes later replaces what was there before; a directory that was there keeps its children.
   * @param whiteouts whether `.wh.` names hide what lower layers have (OCI image-spec, "Whiteouts"); else they are names
   * @throws NymphError `corrupt` for a hard link to what is not there
   */
  add(entries: Iterable<TarEntry>, whiteouts: boolean): void;
  /** The tree as it is now, ascending by the bytes of the names. A file's further names link to its first. */
  entries(): Generator<TarEntry>;
}

/** An inode: several names may share one. */
interface Inode {
  entry: SourceEntry;
}

interface Name {
  inode: Inode;
  /** Of directories. Names as Latin-1 text, so that any bytes can be keys. */
  children?: Map<string, Name>;
}

const WHITEOUT = '.wh.';
/** aufs keeps its own files under such names; one of them is an OCI whiteout. */
const AUFS = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
/** As many as Linux follows (path_resolution(7)). */
const MAX_LINKS = 40;

export function createLayerTree(): LayerTree {
  const root: Name = directory({ path: Buffer.alloc(0), mode: S_IFDIR | 0o755 });

  /**
   * The children of the directory that a path means, symbolic links followed and kept inside the root.
   * @param make whether what is missing is made, and what is no directory replaced
   */
  function walk(path: readonly string[], make: boolean): Map<string, Name> | undefined {
    const trail = [root.children!];
    const left = [...path].reverse();
    let links = 0;
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      if (name === '' || name === '.') continue;
      if (name === '..') {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const at = trail[trail.length - 1];
      let next = at.get(name);
      const target = next && symlinkTarget(next);
      if (target !== undefined) {
        if (++links > MAX_LINKS) throw new NymphError('corrupt', `tar: ${show(path)} leads through too many links`);
        if (target.startsWith('/')) trail.length = 1;
        left.push(...target.split('/').reverse());
        continue;
      }
      if (!next?.children) {
        if (!make) return undefined;
        next = directory({ path: Buffer.alloc(0), mode: S_IFDIR | 0o755 });
        at.set(name, next);
      }
      trail.push(next.children!);
    }
    return trail[trail.length - 1];
  }

  function hide(path: readonly string[]): void {
    const name = path[path.length - 1];
    const parent = walk(path.slice(0, -1), false);
    if (name === OPAQUE) parent?.clear();
    else parent?.delete(name.slice(WHITEOUT.length));
  }

  function put(entry: TarEntry, path: readonly string[]): void {
    if (path.length === 0) {
      if ((entry.mode & S_IFMT) === S_IFDIR) root.inode = { entry };
      return;
    }
    const parent = walk(path.slice(0, -1), true)!;
    const name = path[path.length - 1];
    if (entry.linkTo !== undefined) {
      const to = cleanPath(Buffer.from(entry.linkTo)).toString('latin1').split('/');
      const target = walk(to.slice(0, -1), false)?.get(to[to.length - 1]);
      if (!target || target.children)
        throw new NymphError('corrupt', `tar: ${show(path)} is a hard link to ${show(to)}, which is no file here`);
      parent.set(name, { inode: target.inode });
      return;
    }
    const before = parent.get(name);
    if ((entry.mode & S_IFMT) !== S_IFDIR) parent.set(name, { inode: { entry } });
    else if (before?.children) before.inode = { entry };
    else parent.set(name, directory(entry));
  }

  return {
    add(entries, whiteouts) {
      const own: { entry: TarEntry; path: string[] }[] = [];
      for (const entry of entries) {
        const path = entry.path.length === 0 ? [] : entry.path.toString('latin1').split('/');
        const name = path[path.length - 1] ?? '';
        // They hide what lower layers have, wherever in this one they stand: so they come first.
        if (!whiteouts || !name.startsWith(WHITEOUT)) {
          if (!whiteouts || !path.some((part) => part.startsWith(AUFS))) own.push({ entry, path });
        } else if (name === OPAQUE || !name.startsWith(AUFS)) hide(path);
      }
      for (const { entry, path } of own) put(entry, path);
    },
    *entries() {
      const firstNames = new Map<Inode, Buffer>();
      const stack: { name: Name; path: Buffer }[] = [{ name: root, path: Buffer.alloc(0) }];
      for (let at = stack.pop(); at; at = stack.pop()) {
        const { name, path } = at;
        const { entry } = name.inode;
        const first = firstNames.get(name.inode);
        if (first) yield { path, mode: entry.mode, linkTo: first };
        else yield { ...entry, path };
        if (name.children) for (const child of descending(name.children, path)) stack.push(child);
        else if (!first) firstNames.set(name.inode, path);
      }
    },
  };
}

function directory(entry: SourceEntry): Name {
  return { inode: { entry }, children: new Map() };
}

function symlinkTarget({ inode: { entry } }: Name): string | undefined {
  return (entry.mode & S_IFMT) === S_IFLNK ? Buffer.from(entry.target ?? '').toString('latin1') : undefined;
}

function descending(children: Map<string, Name>, parent: Buffer): { name: Name; path: Buffer }[] {
  return [...children.keys()]
    .sort()
    .reverse()
    .map((key) => ({
      name: children.get(key)!,
      path: Buffer.concat([parent, Buffer.from(parent.length === 0 ? key : `/${key}`, 'latin1')]),
    }));
}

function show(path: readonly string[]): string {
  return JSON.stringify(Buffer.from(path.join('/'), 'latin1').toString());
}
