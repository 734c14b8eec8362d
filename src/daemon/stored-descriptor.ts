/**
 * Descriptors that the service manager keeps for us while we are restarted, and hands to the next process
 * (sd_pid_notify_with_fds(3), sd_listen_fds(3)). Ours is that of /dev/fuse: while it is open, readers wait.
 */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';

/** sd_listen_fds(3): they are numbered from here on. */
const FIRST_FD = 3;

/**
 * The name under which a connection is kept. It tells where it is mounted and whose blobs it serves: after a change of
 * the configuration it is of no use.
 */
export function connectionName(root: string, mountpoint: string): string {
  const place = createHash('sha256').update(`${root}\0${mountpoint}`).digest('hex').slice(0, 16);
  return `nymph-fuse-${place}`;
}

/**
 * Takes what the service manager hands over, once: the environment is cleared, and what has another name is closed.
 * @returns the descriptor that is kept under `name`, the newest where there are several
 */
export function takeStored(environment: NodeJS.ProcessEnv, name: string): number | undefined {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' } = environment;
  for (const key of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[key];
  // They may be meant for the process that started this one.
  if (Number(LISTEN_PID) !== process.pid) return undefined;
  const names = LISTEN_FDNAMES.split(':');
  let found: number | undefined;
  for (let index = 0; index < Number(LISTEN_FDS); index++) {
    const fd = FIRST_FD + index;
    const unneeded = names[index] === name ? found : fd;
    if (names[index] === name) found = fd;
    if (unneeded !== undefined) closeSync(unneeded);
  }
  return found;
}
