/**
 * Descriptors that the service manager keeps for us while we are restarted, and hands to the next process
 * (sd_pid_notify_with_fds(3), sd_listen_fds(3)). Ours are those of /dev/fuse: while one is open, its readers wait.
 */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';

/** sd_listen_fds(3): they are numbered from here on. */
const FIRST_FD = 3;

/**
 * The names under which connections are kept. They tell where they are mounted and whose blobs are served: after a change
 * of the configuration they are of no use.
 */
export function connectionNames(root: string, mountpoint: string): { fuse: string; trees: string } {
  const place = createHash('sha256').update(`${root}\0${mountpoint}`).digest('hex').slice(0, 16);
  return { fuse: `nymph-fuse-${place}`, trees: `nymph-trees-${place}` };
}

/**
 * Takes what the service manager hands over, once: the environment is cleared, and what has another name is closed.
 * @param names by what the caller calls them
 * @returns the descriptors that are kept under these names, the newest where there are several
 */
export function takeStored<Key extends string>(
  environment: NodeJS.ProcessEnv,
  names: Record<Key, string>,
): Partial<Record<Key, number>> {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' } = environment;
  for (const key of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[key];
  // They may be meant for the process that started this one.
  const found: Partial<Record<Key, number>> = {};
  if (Number(LISTEN_PID) !== process.pid) return found;
  const given = LISTEN_FDNAMES.split(':');
  for (let index = 0; index < Number(LISTEN_FDS); index++) {
    const fd = FIRST_FD + index;
    const key = (Object.keys(names) as Key[]).find((candidate) => names[candidate] === given[index]);
    const unneeded = key === undefined ? fd : found[key];
    if (key !== undefined) found[key] = fd;
    if (unneeded !== undefined) closeSync(unneeded);
  }
  return found;
}
