import { readdir, readFile, readlink } from 'node:fs/promises';
import { release } from 'node:os';

/**
 * Whether a living process has a descriptor of a FUSE connection. One that was killed while a thread of it waited for an
 * answer cannot end, and keeps the connection, from which nobody will ever answer again.
 * @param device of the mount, `major:minor`: the minor number is the connection's
 * @returns true also for kernels that do not tell
 */
export async function isHeld(device: string): Promise<boolean> {
  if (!tellsConnections()) return true;
  const connection = device.split(':')[1];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)))
    if ((await connectionsOf(pid)).includes(connection)) return true;
  return false;
}

/** Old kernels have no `fuse_connection` in fdinfo. Ours, which have EROFS over files, do. */
function tellsConnections(): boolean {
  const [major, minor] = release().split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 12);
}

/** Connections whose descriptors a process has: none if it is ending. */
async function connectionsOf(pid: string): Promise<string[]> {
  const found: string[] = [];
  // Whatever goes away meanwhile holds nothing.
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) !== '/dev/fuse') continue;
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'latin1').catch(() => '');
    // A descriptor that is not mounted yet has no such line.
    found.push(/^fuse_connection:\s*(\S+)/m.exec(info)?.[1] ?? '');
  }
  return found;
}
