import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { cp, link, lstat, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeOciLayout } from '../src/build/oci-layout.ts';
import { buildRafsV6 } from '../src/formats/rafs/write/build.ts';
import { walkDirectory } from '../src/formats/rafs/write/directory.ts';
import { sharedFixture } from '../test/fixtures.ts';
import { type Lab, unmountBelow } from './lab.ts';
import { NYMPH, startNymph } from './nymph.ts';
import { freshExt4, type Place } from './place.ts';
import { run } from './processes.ts';

/** A real root file system with an interpreter, as a Nydus image and as an ordinary layer. */
export interface ProgramImage {
  /** OCI layout with the tag `nydus`, and `listed`: built with a list of what the program reads. Among its blobs is the archive. */
  layout: string;
  /** Digest of a tar+gzip of the same tree. */
  archive: string;
  /** What to run in a chroot, and what it must print. */
  program: string[];
  says: string;
  /** What the image is, for the report. */
  text: string;
}

const PYTHON = ['python3', '-S', '-c', 'import re,os;print("ok")'];
const PERL = ['perl', '-e', 'use POSIX; print "ok\\n"'];
const PERL_TREE_BYTES = 130e6;

/** Makes them in `kept`, unless they are there. */
export async function programImage(lab: Lab, place: Place): Promise<ProgramImage> {
  const { kept } = place;
  const shared = sharedFixture('oci', 'python');
  const home = join(kept, shared === null ? 'perl' : 'python');
  const layout = join(home, 'layout');
  const archive = join(home, 'layer.tar.gz');
  if (!existsSync(archive)) {
    await rm(home, { recursive: true, force: true });
    await mkdir(home, { recursive: true });
    const draft = `${archive}.draft`;
    if (shared === null) await makePerlImage(home, layout, draft);
    else await packLayout(lab, shared, layout, draft);
    await rename(draft, archive);
  }
  const program = shared === null ? PERL : PYTHON;
  const list = join(home, 'read-first');
  if (!existsSync(list)) {
    await writeFile(`${list}.draft`, await filesRead(lab, place, archive, program));
    await run(NYMPH, ['build', archive, '-o', `oci:${layout}:listed`, '--prefetch', `${list}.draft`]);
    await rename(`${list}.draft`, list);
  }
  const hex = await sha256(archive);
  const blob = join(layout, 'blobs', 'sha256', hex);
  if (!existsSync(blob)) await link(archive, blob);
  return {
    layout,
    archive: `sha256:${hex}`,
    program,
    says: 'ok\n',
    text: shared === null ? "this machine's Perl with 130 MB of its libraries" : 'a Debian root with Python (138 MB)',
  };
}

/**
 * The regular files of an archive that a program reads, one a line: those whose access time changes while it runs.
 */
async function filesRead(lab: Lab, place: Place, archive: string, program: string[]): Promise<string> {
  const root = await freshExt4(lab, place, 'traced');
  await run('mount', ['-o', 'remount,strictatime', root]);
  await run('tar', ['-xzf', archive, '-C', root, '--atime-preserve=system']);
  await run('find', [root, '-exec', 'touch', '-h', '-a', '-d', '2000-01-01', '{}', '+']);
  await run('env', ['LC_ALL=C', 'chroot', root, ...program]);
  const { out } = await run('find', [root, '-xdev', '-type', 'f', '-newerat', '2001-01-01', '-printf', '/%P\\n']);
  await unmountBelow(place.scratch);
  return out;
}

/** Copies an image, and packs what it shows into a tar+gzip. */
async function packLayout(lab: Lab, from: string, layout: string, archive: string): Promise<void> {
  await cp(from, layout, { recursive: true });
  const nymph = await startNymph(lab, join(lab.directory, 'pack'));
  const directory = join(lab.directory, 'packed');
  await nymph.command('mount', `oci:${layout}:nydus`, directory);
  await pack(directory, archive);
  await nymph.command('umount', directory);
  await nymph.stop();
}

async function makePerlImage(home: string, layout: string, archive: string): Promise<void> {
  const tree = join(home, 'tree');
  await mkdir(tree);
  const lines = async (program: string, ...args: string[]) => (await run(program, args)).out.trim().split('\n');
  const libraries = (await lines('ldd', '/usr/bin/perl')).flatMap((line) => /(\/\S+) \(0x/.exec(line)?.[1] ?? []);
  // Links are followed: in the tree each path is what it leads to.
  await run('cp', ['-L', '--parents', '/usr/bin/perl', ...libraries, tree]);
  for (const directory of await lines('perl', '-e', 'print "$_\\n" for @INC'))
    if (existsSync(directory)) await run('cp', ['-rL', '--parents', directory, tree]);
  // `perl -e` opens it; image mounts have no device nodes, and an empty file is read as the device is.
  await mkdir(join(tree, 'dev'));
  await writeFile(join(tree, 'dev', 'null'), '');
  let left = PERL_TREE_BYTES;
  for (const root of ['/usr/lib', '/usr/share']) left = await copySome(root, tree, left);
  const built = await buildRafsV6(walkDirectory(tree), {
    bootstrap: join(home, 'bootstrap'),
    blobs: join(layout, 'blobs', 'sha256'),
  });
  await writeOciLayout(layout, built, { tag: 'nydus' });
  await pack(tree, archive);
}

/** Copies regular files of a directory until `left` bytes are used up. @returns bytes that are left */
async function copySome(from: string, tree: string, left: number): Promise<number> {
  let rest = left;
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (rest <= 0) break;
    const path = join(from, entry.name);
    if (entry.isDirectory()) rest = await copySome(path, tree, rest);
    else if (entry.isFile() && !existsSync(join(tree, path))) {
      await mkdir(join(tree, dirname(path)), { recursive: true });
      await cp(path, join(tree, path), { preserveTimestamps: true });
      rest -= (await lstat(path)).size;
    }
  }
  return rest;
}

async function pack(tree: string, archive: string): Promise<void> {
  await run('tar', ['-C', tree, '-czf', archive, '.']);
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece);
  return hash.digest('hex');
}
