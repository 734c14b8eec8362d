import { readFile } from 'node:fs/promises';

/** One line of /proc/self/mountinfo (proc_pid_mountinfo(5)), what of it we use. */
export interface MountEntry {
  directory: string;
  type: string;
  source: string;
  /** `major:minor`. */
  device: string;
  /** What of the file system is mounted: `/` for all of it. */
  root: string;
}

/** Mounts that this process sees, later ones on the same directory after earlier ones. */
export async function readMounts(): Promise<MountEntry[]> {
  return parseMounts(await readFile('/proc/self/mountinfo', 'utf8'));
}

export function parseMounts(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [head, tail] = line.split(' - ');
    if (tail === undefined) continue;
    const before = head.split(' ');
    const after = tail.split(' ');
    entries.push({
      directory: unescapeOctal(before[4]),
      device: before[2],
      root: unescapeOctal(before[3]),
      type: after[0],
      source: unescapeOctal(after[1]),
    });
  }
  return entries;
}

/** The kernel writes space, tab, newline and backslash as `\040` and so on. */
function unescapeOctal(text: string): string {
  if (!text.includes('\\')) return text;
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  return Buffer.from(
    bytes.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8))),
    'latin1',
  ).toString('utf8');
}

/** The topmost mount on a directory. */
export function mountOn(entries: MountEntry[], directory: string): MountEntry | undefined {
  return entries.findLast((entry) => entry.directory === directory);
}
