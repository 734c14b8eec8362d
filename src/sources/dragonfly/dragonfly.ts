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
  /** How often an object's place has refused to give it, since it last gave something. */
  const refusals = new WeakMap<SwarmObject, number>();
  await way.look();

  async function idOf(object: SwarmObject): Promise<string | undefined> {
    if (task.digestIds) return object.digest.slice(object.digest.indexOf(':') + 1);
    const location = await object.location(AbortSignal.timeout(LOCATE_TIMEOUT), 0);
    if (location === undefined) return undefined;
    const fixed = { filteredQueryParams: FILTERED_QUERY_PARAMS, enableTaskIdBasedBlobDigest: false };
    return taskId({ ...task, ...fixed, url: location.url.href });
  }

  function note(object: SwarmObject, { verdict, error }: Judgement): NymphError {
    if (error.code === 'cancelled') return error;
    const before = refusals.get(object) ?? 0;
    if (verdict === 'login') refusals.set(object, before + 1);
    // Of two tries with each place the second one, with another login, would change nothing.
    if (verdict === 'place') refusals.set(object, (before | 1) + 1);
    if (verdict === 'retry' && error.retryAfter === undefined) unseeded.add(object);
    if (verdict === 'give up') {
      health.failed(NAME, error);
      void way.look();
    }
    log.debug({ digest: object.digest, verdict, error: error.message }, 'Dragonfly failed');
    if (verdict === 'retry' || verdict === 'elsewhere') return error;
    // Another login or place, or the daemon when it is back, may do better.
    return new NymphError(error.code, error.message, { retryable: true, cause: error.cause });
  }

  async function start(object: SwarmObject, signal: AbortSignal, keep: boolean): Promise<SwarmStream> {
    const what = `blob ${object.digest}`;
    const location = await object.location(signal, refusals.get(object) ?? 0);
    if (location === undefined)
      throw new NymphError('unsupported', `${what} is in no place that dfdaemon could get it from`);
    try {
      const download = downloadOf(object.digest, location, task, !unseeded.has(object), keep);
      const stream = await way.download(download, what, signal);
      health.succeeded(NAME);
      refusals.delete(object);
      return { ...stream, pieces: judged(object, what, stream.pieces) };
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
    async open(object, signal, use = 'keep') {
      for (let refusal: unknown; ; ) {
        const before = refusals.get(object) ?? 0;
        try {
          return await start(object, signal, use === 'keep');
        } catch (error) {
          // All places were tried: what they said says more.
          if (refusal !== undefined && error instanceof NymphError && error.code === 'unsupported') {
            refusals.delete(object);
            throw refusal;
          }
          if ((refusals.get(object) ?? 0) <= before || signal.aborted) throw error;
          refusal = lasting(error as NymphError);
        }
      }
    },
    close: way.close,
  };
}

/** A daemon that gets no access where we do: the object comes from elsewhere. */
function lasting({ code, message, cause }: NymphError): NymphError {
  return new NymphError(code, message, { cause });
}
