/** Trees at random, and what their images must show: the same for the same seed. */
import { createHash } from 'node:crypto';
import { contentOf, type SourceEntry } from '../src/formats/rafs/write/source.ts';
import { randomSeries } from './manifest/read.ts';
import { type Row, show } from './manifest/rows.ts';
import { noiseBytes, textBytes } from './tree.ts';

export interface RandomTree {
  /** In any order. */
  entries: SourceEntry[];
  /** By path, as JSON. */
  rows: Map<string, Row>;
}

type Pick = <T>(values: readonly T[]) => T;

/** @param chunkSize sizes of files lie around its multiples */
export function randomTree(seed: number, chunkSize: number): RandomTree {
  const random = randomSeries(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const pick: Pick = (values) => values[below(values.length)];
  const entries: SourceEntry[] = [];
  const taken = new Set<string>();
  const directories: Buffer[] = [Buffer.alloc(0)];
  const files: SourceEntry[] = [];

  function newPath(): Buffer {
    for (;;) {
      const path = Buffer.concat([pick(directories), Buffer.from('/'), randomName(random, below)]);
      const key = path.toString('latin1');
      if (path.length < 3000 && !taken.has(key)) {
        taken.add(key);
        return path;
      }
    }
  }

  const attributes = (): Partial<SourceEntry> => ({
    uid: pick([0, 1000, 65535, 65536, 4_000_000_000]),
    gid: pick([0, 1000, 4_000_000_000]),
    mtime: pick([0, 1_700_000_000 + below(1000), -1 - below(1_000_000), 2 ** 33]),
    mtimeNs: pick([0, 1, 999_999_999, below(1_000_000_000)]),
    xattrs: randomXattrs(random, below, pick, ['user.', 'trusted.', 'security.']),
  });
  /** The kernel gives `user.` attributes of regular files and directories only. */
  const ofSpecial = (): Partial<SourceEntry> => ({
    ...attributes(),
    xattrs: randomXattrs(random, below, pick, ['trusted.', 'security.']),
  });
  const permissions = (): number => pick([0o644, 0o755, 0o000, 0o4755, 0o2755, 0o1777, below(0o10000)]);

  entries.push({ path: '/', mode: 0o040000 | permissions(), ...attributes() });
  const count = 20 + below(120);
  // Now and then a directory of several blocks.
  const crowded = below(4) === 0 ? 300 : 0;
  for (let i = 0; i < count + crowded; i++) {
    const kind = i < count ? below(10) : 9;
    const path = newPath();
    const common = { path, ...(kind < 6 ? attributes() : ofSpecial()) };
    if (kind < 2) {
      entries.push({ ...common, mode: 0o040000 | permissions() });
      directories.push(path);
    } else if (kind < 6) {
      const file: SourceEntry = {
        ...common,
        mode: 0o100000 | permissions(),
        ...contentOf(randomContent(below, pick, chunkSize)),
      };
      entries.push(file);
      files.push(file);
    } else if (kind === 6)
      entries.push({ ...common, mode: 0o120777, target: Buffer.alloc(1 + below(pick([10, 100, 4095])), 'target/') });
    else if (kind === 7)
      entries.push({
        ...common,
        mode: pick([0o020000, 0o060000]) | permissions(),
        device: { major: below(4096), minor: pick([below(256), below(1 << 20)]) },
      });
    else if (kind === 8) entries.push({ ...common, mode: pick([0o010000, 0o140000]) | permissions() });
    else if (files.length > 0) entries.push({ path, mode: 0o100000, linkTo: pick(files).path });
    else taken.delete(path.toString('latin1'));
  }
  // The order of entries means nothing.
  const keyed = entries.map((entry) => ({ entry, key: random() })).sort((a, b) => a.key - b.key);
  return { entries: keyed.map(({ entry }) => entry), rows: rowsOf(entries) };
}

function randomName(random: () => number, below: (limit: number) => number): Buffer {
  const length = random() < 0.8 ? 1 + below(12) : 1 + below(255);
  const name = Buffer.alloc(length);
  const letters = random() < 0.6;
  for (let i = 0; i < length; i++) name[i] = letters ? 97 + below(26) : 1 + below(255);
  for (let i = 0; i < length; i++) if (name[i] === 0x2f) name[i] = 0x5f;
  if (name.equals(Buffer.from('.')) || name.equals(Buffer.from('..'))) name[0] = 0x5f;
  return name;
}

function randomContent(below: (limit: number) => number, pick: Pick, chunkSize: number): Buffer {
  const near = pick([0, 1, 512, 4096, chunkSize, chunkSize * 2, chunkSize * 5]);
  const size = Math.max(0, near + pick([-1, 0, 1, below(4096)]));
  const kind = below(4);
  const seed = below(7);
  if (kind === 0) return textBytes(size, seed);
  if (kind === 1) return noiseBytes(size, seed);
  if (kind === 2) return Buffer.alloc(size);
  // Zeros with islands, as sparse files have them.
  const content = Buffer.alloc(size);
  for (let i = 0; i < 3 && size > 0; i++) content.write('island', below(size));
  return content;
}

function randomXattrs(
  random: () => number,
  below: (limit: number) => number,
  pick: Pick,
  prefixes: readonly string[],
): { name: Buffer; value: Buffer }[] {
  if (random() < 0.7) return [];
  const found = new Map<string, Buffer>();
  for (let i = 0; i <= below(4); i++) {
    const name = `${pick(prefixes)}${'n'.repeat(1 + below(pick([5, 200])))}${i}`;
    found.set(name, noiseBytes(below(pick([8, 300, 3000])), i));
  }
  return [...found].map(([name, value]) => ({ name: Buffer.from(name), value }));
}

/** What a tree of these entries must show. */
function rowsOf(entries: readonly SourceEntry[]): Map<string, Row> {
  const key = (path: Buffer | string): string => Buffer.from(path).toString('latin1');
  const byPath = new Map(entries.map((entry) => [key(entry.path), entry]));
  const links = new Map<SourceEntry, number>();
  const inodeOf = (entry: SourceEntry): SourceEntry => (entry.linkTo ? byPath.get(key(entry.linkTo))! : entry);
  for (const entry of entries) links.set(inodeOf(entry), (links.get(inodeOf(entry)) ?? 0) + 1);
  const rows = new Map<string, Row>();
  for (const entry of entries) {
    const inode = inodeOf(entry);
    const { mode, uid = 0, gid = 0, mtime = 0, mtimeNs = 0, xattrs = [], content } = inode;
    const path = Buffer.from(entry.path);
    const row: Row = { path: show(path), mode: `0o${mode.toString(8)}`, uid, gid };
    const type = mode & 0o170000;
    if (path.toString() !== '/') {
      row.mtime = mtime < 0 && mtimeNs > 0 ? mtime + 1 : mtime;
      row.mtimeNanoseconds = mtimeNs;
    }
    if (type !== 0o040000) row.nlink = links.get(inode);
    if (type === 0o100000) {
      const bytes = content?.kind === 'bytes' ? content.bytes : new Uint8Array();
      row.size = bytes.length;
      row.sha256 = createHash('sha256').update(bytes).digest('hex');
    }
    if (type === 0o120000) row.target = show(Buffer.from(inode.target!));
    if (inode.device) row.rdev = [inode.device.major, inode.device.minor];
    if (xattrs.length > 0)
      row.xattrs = Object.fromEntries(
        xattrs.map(({ name, value }) => [name.toString(), Buffer.from(value).toString('base64')]),
      );
    rows.set(JSON.stringify(row.path), row);
  }
  return rows;
}
