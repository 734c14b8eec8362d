import { NymphError } from '../../errors.ts';
import type { Context } from '../context.ts';

/** `nymph daemon`: serves until it is told to stop; with `stop`, tells the one that runs. */
export async function run(context: Context, options: { stop?: boolean }): Promise<undefined> {
  if (options.stop) {
    const client = await context.daemon();
    const { pid } = await client.health();
    await client.stop();
    context.print({ stopped: pid }, () => `stopped the daemon (process ${pid})`);
    return;
  }
  throw new NymphError('internal', 'the daemon is not wired yet');
}
