import { mkdir, realpath, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NymphError } from '../errors.ts';
import { MAX_READ } from '../fuse/wire.ts';
import { isHeld } from './fuse-holders.ts';
import { MS_NODEV, MS_NOSUID, MS_RDONLY, mount, umount } from './kernel.ts';
import { type MountEntry, mountOn, readMounts } from './mountinfo.ts';
import { widenReadAhead } from './super-block.ts';

const MS_NOEXEC = 8;
/** A living daemon answers at once, one that is started again within this time, ms. */
const ALIVE_MS = 3_000;

/**
 * Mounts a FUSE file system of ours on `directory`, made if need be; what a dead daemon left there is detached first.
 * @param fuseFd an unused descriptor of /dev/fuse.
 */
export async function mountFuse(fuseFd: number, directory: string): Promise<void> {
  await unmountStale(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  // Readers of images come as any user, through EROFS; to this file system itself only root has access.
  const access = 'allow_other,default_permissions';
  const data = `fd=${fuseFd},rootmode=40000,user_id=0,group_id=0,${access},max_read=${MAX_READ}`;
  const refusal = await mount('nymph', directory, 'fuse', MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, data);
  if (refusal !== undefined)
    throw new NymphError('mount', `cannot mount FUSE on ${directory}: ${refusal.message} (${refusal.name})`, {
      hint: refusal.name === 'EPERM' ? 'Run nymph as root.' : 'Check that /dev/fuse is there and dmesg for more.',
    });
  const there = await mounted(directory);
  if (there !== undefined) await widenReadAhead(there.device);
}

/**
 * Detaches what a dead daemon left on `directory`.
 * @throws NymphError `busy` if something else is there, `mount`
 */
export async function unmountStale(directory: string): Promise<void> {
  for (let stale = await staleMount(directory); stale; stale = await staleMount(directory)) {
    const refusal = await umount(directory, true);
    if (refusal !== undefined) throw new NymphError('mount', `cannot clear ${directory}: ${refusal.message}`);
  }
}

/**
 * For a daemon that begins with a connection of its own, before it takes anything that another needs who comes back.
 * @throws NymphError `busy` if another daemon serves on `directory`, or will again
 */
export async function refuseServed(directory: string): Promise<void> {
  await staleMount(directory);
}

/** True if a FUSE file system of ours is mounted there, whoever serves it. */
export async function isOnDirectory(directory: string): Promise<boolean> {
  const there = await mounted(directory);
  return there !== undefined && isOurs(there);
}

/** True for a FUSE mount that a nymph has made. */
export const isOurs = ({ type, source }: MountEntry) => type === 'fuse' && source === 'nymph';

/** What is mounted on the directory. Its parents may be links, which the mount table does not show; it itself is not looked at. */
async function mounted(directory: string): Promise<MountEntry | undefined> {
  const parent = await realpath(dirname(directory)).catch(() => dirname(directory));
  return mountOn(await readMounts(), join(parent, basename(directory)));
}

async function staleMount(directory: string): Promise<boolean> {
  const there = await mounted(directory);
  if (there === undefined) return false;
  if (isOurs(there)) {
    const state = await stateOf(directory);
    if (state === 'dead') return true;
    if (state === 'silent' && !(await isHeld(there.device))) {
      await abort(directory);
      return staleMount(directory);
    }
    throw new NymphError('busy', `another daemon serves ${directory}`, {
      hint: 'Stop it with `nymph daemon --stop`, or give this one another --address (or fuse.mountpoint).',
    });
  }
  throw new NymphError('busy', `${directory} is a mount point of ${there.type} already`, {
    hint: 'Set fuse.mountpoint to another directory.',
  });
}

/** `dead`: nobody can answer any more. `silent`: its daemon may be between two lives. */
async function stateOf(directory: string): Promise<'dead' | 'alive' | 'silent'> {
  // Not stat: the kernel remembers attributes, and answers for a dead daemon.
  const asked = statfs(directory).then(
    () => 'alive' as const,
    (error: NodeJS.ErrnoException) => (error.code === 'ENOTCONN' || error.code === 'ECONNABORTED' ? 'dead' : 'alive'),
  );
  return Promise.race([asked, sleep(ALIVE_MS, 'silent' as const, { ref: false })]);
}

/** Ends a connection: whoever waits for its answers gets an error. The mount goes, too. */
async function abort(directory: string): Promise<void> {
  const refusal = await umount(directory, true, true);
  if (refusal !== undefined && refusal.name !== 'EINVAL')
    throw new NymphError('mount', `cannot end the FUSE connection on ${directory}: ${refusal.message}`);
}

/** Takes the mount out of sight; image mounts that use it keep it until they go. */
export async function unmountFuse(directory: string): Promise<void> {
  const refusal = await umount(directory, true);
  if (refusal !== undefined && refusal.name !== 'EINVAL')
    throw new NymphError('mount', `cannot unmount ${directory}: ${refusal.message} (${refusal.name})`);
}
