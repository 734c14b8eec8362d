/** A file system of its own that is small: to fill it harms nobody. */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clearMounts, run } from './daemon.ts';

/**
 * ext4 in a file, by a loop device.
 * @param size bytes
 * @returns where it is mounted, or why it cannot be had here
 */
export async function smallDisk(
  t: { after(clean: () => Promise<void>): void },
  size: number,
): Promise<{ point: string } | { why: string }> {
  const scratch = mkdtempSync('/tmp/nymph-');
  const point = join(scratch, 'disk');
  mkdirSync(point);
  writeFileSync(join(scratch, 'image'), '');
  truncateSync(join(scratch, 'image'), size);
  const made = await run('sh', ['-c', `mkfs.ext4 -q -m 0 ${scratch}/image && mount -o loop ${scratch}/image ${point}`]);
  t.after(async () => {
    // The daemon may hold files of the disk still: it ends after this.
    await run('umount', ['-l', point]);
    await clearMounts(scratch);
    rmSync(scratch, { recursive: true, force: true });
  });
  return made.status === 0 ? { point } : { why: `no loop device with ext4 here: ${made.err.trim()}` };
}
