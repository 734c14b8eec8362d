import type { MountOptions } from '../../daemon/api.ts';
import { isDaemonAbsent } from '../../daemon/control-client.ts';
import type { Context } from '../context.ts';
import { makeDirectory } from '../directories.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { printable } from '../text.ts';

/** `nymph mount`: returns when the directory can be read. */
export async function run(
  context: Context,
  reference: string,
  directory: string,
  options: MountOptions,
): Promise<undefined> {
  const image = canonicalReference(reference);
  const client = await context.daemon();
  await client.health().catch(async (error) => {
    if (!isDaemonAbsent(error)) throw error;
    // Loaded only here: where a daemon runs, a mount is a matter of milliseconds.
    const { startDaemon } = await import('../start-daemon.ts');
    await startDaemon(context);
  });
  const view = progressView();
  const made = await makeDirectory(directory);
  try {
    const { platform, prefetch, via } = options;
    const mount = await client.mount(
      { reference: image, directory: made.path, options: { platform, prefetch, via } },
      view.update,
    );
    view.clear();
    context.print(mount, () => `mounted ${printable(mount.reference)} on ${printable(mount.directory)}`);
  } catch (error) {
    view.clear();
    await made.undo();
    throw error;
  }
}
