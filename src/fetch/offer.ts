import type { Swarm, SwarmObject } from '../sources/swarm.ts';
import type { FetchContext } from './context.ts';

/** Attempts: the first one may find that a seed has only begun. */
const ATTEMPTS = 2;

/**
 * Has a swarm get an object that nobody in it had, so that others find it there: a seed does, or our own part of the swarm.
 * The bytes are dropped; those of others are not even waited for. Never rejects.
 */
export async function offer(
  swarm: Swarm,
  object: SwarmObject,
  log: FetchContext['log'],
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS && swarm.available() && !signal.aborted; attempt++) {
    if ((await swarm.look(object)) === true) return;
    try {
      const { pieces } = await swarm.open(object, signal, 'drop');
      for await (const { from } of pieces) if (from !== 'origin') break;
      return;
    } catch (error) {
      log('debug', 'a blob could not be given to the swarm', { digest: object.digest, error: String(error) });
    }
  }
}
