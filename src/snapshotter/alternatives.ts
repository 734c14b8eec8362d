import type { Log } from '../cache/health.ts';
import { messageOf } from '../cache/health.ts';
import type { Origin } from './origin.ts';

/** Finds the Nydus image that stands beside an ordinary one in its index, or refers to it; each asked for once. */
export interface Alternatives {
  /** `undefined` without one, and where nobody can tell in time. */
  of(ordinary: Origin): Promise<Origin | undefined>;
}

/** A pull of an ordinary image is not held up longer, ms. */
const PATIENCE_MS = 5_000;
/** All layers of a pull, and pulls soon after, get the same answer, ms. */
const REMEMBER_MS = 10 * 60_000;

/** @param find asks the registry */
export function createAlternatives(
  find: (ordinary: Origin, signal: AbortSignal) => Promise<Origin | undefined>,
  log: Log,
): Alternatives {
  const known = new Map<Origin, Promise<Origin | undefined>>();

  async function ask(ordinary: Origin): Promise<Origin | undefined> {
    try {
      return await find(ordinary, AbortSignal.timeout(PATIENCE_MS));
    } catch (error) {
      log('info', 'whether an image has a lazy one beside it is not known', {
        image: ordinary,
        why: messageOf(error),
      });
      return undefined;
    }
  }

  return {
    of(ordinary) {
      let answer = known.get(ordinary);
      if (answer === undefined) {
        answer = ask(ordinary);
        known.set(ordinary, answer);
        setTimeout(() => known.delete(ordinary), REMEMBER_MS).unref();
      }
      return answer;
    },
  };
}
