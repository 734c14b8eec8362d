import { NymphError } from '../../errors.ts';
import { createHealthBook } from '../http/health.ts';
import type { Log } from '../log.ts';
import type { Swarm, SwarmObject, SwarmPiece, SwarmStream } from '../swarm.ts';
import { downloadOf, FILTERED_QUERY_PARAMS, type TaskSettings, taskId } from './task.ts';
import type { Judgement } from './verdict.ts';
import type { Way } from './way.ts';

const NAME = 'dragonfly';
/** To find out where an object is, ms. */
const LOCATE_TIMEOUT = 250;

/**
 * Whole objects from Dragonfly, through a dfdaemon of this machine (client 1.4 and later), as streams of pieces. Nothing is
 * loaded or opened while no daemon is there.
 */
export async function createDragonfly(way: Way, task: TaskSettings, log: Log): Promise<Swarm> {
  const health = createHealthBook();
  /** Objects that no peer had: from then on our daemon may get them from their origin. */
  const unseeded = new WeakSet<SwarmObject>();
  /** Objects whose origin has refused the login. */
  const refused = new WeakSet<SwarmObject>();
  await way.look();

  async function idOf(object: SwarmObject): Promise<string | undefined> {
    if (task.digestIds) return object.digest.slice(object.digest.indexOf(':') + 1);
    const location = await object.location(AbortSignal.timeout(LOCATE_TIMEOUT), false);
    if (location === undefined) return undefined;
    const fixed = { filteredQueryParams: FILTERED_QUERY_PARAMS, enableTaskIdBasedBlobDigest: false };
    return taskId({ ...task, ...fixed, url: location.url.href });
  }

  function note(object: SwarmObject, { verdict, error }: Judgement): NymphError {
    if (error.code === 'cancelled') return error;
    if (verdict === 'login') refused.add(object);
    if (verdict === 'retry' && error.retryAfter === undefined) unseeded.add(object);
    if (verdict === 'give up') {
      health.failed(NAME, error);
      void way.look();
    }
    log.debug({ digest: object.digest, verdict, error: error.message }, 'Dragonfly failed');
    if (verdict === 'retry' || verdict === 'elsewhere') return error;
    // Another login, or the daemon when it is back, may do better.
    return new NymphError(error.code, error.message, { retryable: true, cause: error.cause });
  }

  async function start(object: SwarmObject, signal: AbortSignal): Promise<SwarmStream> {
    const what = `blob ${object.digest}`;
    const location = await object.location(signal, refused.delete(object));
    if (location === undefined)
      throw new NymphError('unsupported', `${what} is in no place that dfdaemon could get it from`);
    try {
      const download = downloadOf(object.digest, location, task, !unseeded.has(object));
      const { size, pieces } = await way.download(download, what, signal);
      health.succeeded(NAME);
      return { size, pieces: judged(object, what, pieces) };
    } catch (error) {
      throw note(object, way.judge(what, error));
    }
  }

  async function* judged(object: SwarmObject, what: string, pieces: AsyncIterable<SwarmPiece>) {
    try {
      yield* pieces;
    } catch (error) {
      throw note(object, way.judge(what, error));
    }
  }

  return {
    name: NAME,
    available: () => way.there() && !health.isResting(NAME),
    async look(object) {
      const id = await idOf(object).catch(() => undefined);
      return id === undefined ? undefined : way.stat(id);
    },
    async open(object, signal) {
      const retried = refused.has(object);
      try {
        return await start(object, signal);
      } catch (error) {
        if (!refused.delete(object) || signal.aborted) throw error;
        if (retried) throw noAccess(error as NymphError);
      }
      // Once, and at once, with another login.
      refused.add(object);
      try {
        return await start(object, signal);
      } catch (error) {
        throw refused.delete(object) ? noAccess(error as NymphError) : error;
      }
    },
    close: way.close,
  };
}

/** A daemon that gets no access where we do: the object comes from elsewhere. */
function noAccess({ code, message, cause }: NymphError): NymphError {
  return new NymphError(code, message, { cause });
}
