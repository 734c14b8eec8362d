import { readdir, writeFile } from 'node:fs/promises';

/**
 * Read-ahead of an EROFS mount over plain files. Each such mount has a device of its own for it, `erofs-<n>`, which
 * starts with 128 KiB; with 1 MiB a large file comes 1.5 times as fast from the disk (2.89 against 1.87 GB/s). Over FUSE
 * it is the other way round (1.38 against 2.24 GB/s), so those mounts stay as they are.
 */

const DEVICES = '/sys/class/bdi';
const READ_AHEAD_KIB = '1024';

/** Runs `mount` and widens the read-ahead of the one device that came with it; of none if another mount came too. */
export async function withWideReadAhead(mount: () => Promise<void>): Promise<void> {
  const before = new Set(await erofsDevices());
  await mount();
  const added = (await erofsDevices()).filter((name) => !before.has(name));
  if (added.length !== 1) return;
  // It is only speed: a mount that just went away, or a kernel without the file, is no error.
  await writeFile(`${DEVICES}/${added[0]}/read_ahead_kb`, READ_AHEAD_KIB).catch(() => undefined);
}

async function erofsDevices(): Promise<string[]> {
  return (await readdir(DEVICES).catch(() => [])).filter((name) => name.startsWith('erofs-'));
}
