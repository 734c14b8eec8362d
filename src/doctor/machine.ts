import { readFile, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import koffi from 'koffi';
import { formatSize } from '../daemon/units.ts';
import { type Finding, findings } from './finding.ts';

/** Types of file systems by the magic number of statfs(2). */
const TYPES: Record<number, string | undefined> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  16914836: 'tmpfs',
  2035054128: 'overlayfs',
  26985: 'NFS',
  801189825: 'ZFS',
};
/** Where the kernel takes no image files from, or files do not stay. */
const UNFIT = ['tmpfs', 'overlayfs', 'NFS'];
const SCARCE = 1 << 30;
const NOTHING = 64 << 20;
/** Each blob and each connection has a descriptor. */
const MIN_FILES = 65_536;
/** adjtimex(2): the return value for a clock that nobody keeps right. */
const TIME_ERROR = 5;
const TIMEX_BYTES = 512;

/** The nearest directory that exists, from `path` upwards. */
export async function existing(path: string): Promise<string> {
  for (let directory = path; ; directory = dirname(directory)) {
    const there = await stat(directory).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (there || directory === dirname(directory)) return directory;
  }
}

/** The file system of the root: kind and space. */
export async function checkRoot(root: string, place: string): Promise<Finding[]> {
  const { ok, warning, problem } = findings('root');
  const { type, bavail, bsize, files, ffree } = await statfs(place);
  const name = TYPES[type] ?? `a file system of type 0x${type.toString(16)}`;
  const free = bavail * bsize;
  const found: Finding[] = [];
  if (UNFIT.includes(name))
    found.push(warning(`${root} is on ${name}`, 'Put it on a disk (`root` in the configuration): ext4, xfs or btrfs.'));
  const says = `${root} is on ${name}, ${formatSize(free)} free`;
  if (free < NOTHING) found.push(problem(says, 'Free space: new images cannot be mounted.'));
  else if (free < SCARCE) found.push(warning(says, 'Free space, or set `cache.quota`: what is read is not kept.'));
  else found.push(ok(says));
  if (files > 0 && ffree < 1000)
    found.push(problem(`${ffree} inodes are left there`, 'Free some: unpacked layers need one for each file.'));
  return found;
}

/** @param pid the daemon, or this process */
export async function checkLimits(pid: number | undefined): Promise<Finding> {
  const { ok, warning } = findings('limits');
  const whose = pid === undefined ? 'this process' : 'the daemon';
  const text = await readFile(`/proc/${pid ?? 'self'}/limits`, 'utf8');
  const [, soft, hard] = /^Max open files\s+(\S+)\s+(\S+)/m.exec(text) ?? [];
  const says = `${whose} may open ${soft} files (hard limit ${hard})`;
  if (hard !== 'unlimited' && Number(hard) < MIN_FILES)
    return warning(says, `Raise the limit to ${MIN_FILES} or more (LimitNOFILE= of the service).`);
  return ok(says);
}

/** Asks the kernel whether somebody keeps its clock. */
export function checkClock(): Finding {
  const { ok, warning } = findings('clock');
  const adjtimex = koffi.load('libc.so.6').func('int adjtimex(void *buffer)');
  const says = new Date().toISOString();
  if (adjtimex(Buffer.alloc(TIMEX_BYTES)) !== TIME_ERROR) return ok(`${says}, kept by NTP`);
  return warning(
    `${says}; nobody keeps it right`,
    'Run an NTP client: certificates, tokens and signed addresses depend on the time.',
  );
}
