import type { Context } from '../context.ts';
import { mountedDirectory } from '../directories.ts';
import { printable } from '../text.ts';

/** `nymph umount` */
export async function run(context: Context, directory: string, options: { force?: boolean }): Promise<undefined> {
  const client = await context.daemon();
  const path = await mountedDirectory(directory);
  await client.unmount(path, options.force === true);
  context.print({ directory: path }, () => `unmounted ${printable(path)}`);
}
