import { mkdir, readFile, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { readMounts } from '../src/mount/mountinfo.ts';
import { type Lab, unmountBelow } from './lab.ts';
import { run } from './processes.ts';

/** Where trees, images and caches are: all on one ext4, because it is what we are compared with. */
export interface Place {
  /** Kept between runs: trees and images. */
  readonly kept: string;
  /** Goes away with the lab. */
  readonly scratch: string;
  /** For the report. */
  readonly machine: string[];
}

const NEEDED_BYTES = 6 * 2 ** 30;
const LOOP_BYTES = 12 * 2 ** 30;
const FRESH_BYTES = 4 * 2 ** 30;

/**
 * @param home existing directory; if it is not on ext4, an ext4 image is kept in it and mounted through a loop device
 */
export async function findPlace(lab: Lab, home: string): Promise<Place> {
  const type = await fileSystemType(home);
  const { bavail, bsize } = await statfs(home);
  if (bavail * bsize < NEEDED_BYTES)
    throw new Error(
      `${home} has ${Math.floor((bavail * bsize) / 2 ** 30)} GiB free, 6 are needed: set NYMPH_BENCH_DIR`,
    );
  const processor = cpus();
  const machine = [
    `Linux ${release()}`,
    `${processor.length} cores (${processor[0].model})`,
    `Node ${process.version}`,
  ];
  if (type === 'ext4')
    return { kept: home, scratch: lab.directory, machine: [...machine, `ext4 of the host, ${await diskText(home)}`] };
  const root = join(lab.directory, 'ext4');
  await mkdir(root);
  await run('mount', ['-o', 'loop', await loopImage(join(home, 'ext4.img'), LOOP_BYTES), root]);
  lab.later(() => unmountBelow(lab.directory));
  const scratch = join(root, 'scratch');
  await rm(scratch, { recursive: true, force: true });
  await mkdir(scratch);
  lab.later(async () => {
    await unmountBelow(scratch);
    await rm(scratch, { recursive: true, force: true });
  });
  return { kept: root, scratch, machine: [...machine, `ext4 on a loop device over ${type}`] };
}

/**
 * A new ext4 on a loop device, below `scratch`: for trials that write many files. On the host's own ext4 they would be up
 * to four times slower for some minutes after many files were removed (it passes over inodes that were just freed).
 * @returns its root; it goes away with the lab
 */
export async function freshExt4(lab: Lab, place: Place, name = 'fresh'): Promise<string> {
  const root = join(place.scratch, name);
  await mkdir(root);
  await run('mount', ['-o', 'loop', await loopImage(join(place.scratch, `${name}.img`), FRESH_BYTES), root]);
  lab.later(() => unmountBelow(place.scratch));
  return root;
}

async function loopImage(image: string, size: number): Promise<string> {
  const there = await stat(image).catch(() => undefined);
  if (there?.size === size) return image;
  await writeFile(image, '');
  await truncate(image, size);
  // All is written now: a new file system would go on with it in the background.
  await run('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image]);
  return image;
}

async function fileSystemType(path: string): Promise<string> {
  return (await mountOf(path)).type;
}

async function mountOf(path: string): Promise<{ type: string; device: string }> {
  const { dev } = await stat(path);
  const major = Math.floor(dev / 256) & 0xfff;
  const minor = (dev & 0xff) | ((Math.floor(dev / 4096) & 0xfff00) >>> 0);
  const device = `${major}:${minor}`;
  return (await readMounts()).findLast((entry) => entry.device === device) ?? { type: 'unknown', device };
}

async function diskText(path: string): Promise<string> {
  const { device } = await mountOf(path);
  const readAhead = await readFile(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8').catch(() => 'unknown');
  return `read-ahead ${readAhead.trim()} KiB`;
}

/** Empties the page cache, and the kernel's memory of names and inodes. */
export async function dropCaches(): Promise<void> {
  await run('sync', []);
  await writeFile('/proc/sys/vm/drop_caches', '3\n');
}
