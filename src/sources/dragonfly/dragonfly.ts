import { NymphError } from '../../errors.ts';
import { createHealthBook } from '../http/health.ts';
import type { Swarm, SwarmObject, SwarmStream } from '../swarm.ts';
import { connectDfdaemon } from './client.ts';
import type { DownloadAnswer } from './messages.ts';
import { checkedPieces } from './pieces.ts';
import { type PresenceLog, watchEndpoint } from './presence.ts';
import { downloadOf, FILTERED_QUERY_PARAMS, type TaskSettings, taskId } from './task.ts';
import { type Judgement, judge } from './verdict.ts';

export interface DragonflyOptions {
  /** `unix:///path` or `host:port` of a dfdaemon's download service. */
  endpoint: string;
  /** A person has named the endpoint. */
  named: boolean;
  task: TaskSettings;
  log: PresenceLog;
}

export const DEFAULT_ENDPOINT = 'unix:///var/run/dragonfly/dfdaemon.sock';

const NAME = 'dragonfly';
/** Readers wait for the answer: later it is worth nothing, ms. */
const STAT_TIMEOUT = 250;
/** How long a daemon may take to find an object's size, and between two pieces of up to 64 MiB, ms. */
const START_TIMEOUT = 20_000;
const PIECE_TIMEOUT = 60_000;

/**
 * Whole objects from Dragonfly, through the dfdaemon of this machine (client 1.4 and later), as streams of pieces.
 * Nothing is loaded or opened while no daemon is there.
 */
export async function createDragonfly({ endpoint, named, task, log }: DragonflyOptions): Promise<Swarm> {
  const client = connectDfdaemon(endpoint);
  const presence = watchEndpoint(endpoint, named, client.warm, log);
  const health = createHealthBook();
  /** Objects that no peer had: from then on our daemon may get them from their origin. */
  const unseeded = new WeakSet<SwarmObject>();
  /** Objects whose origin has refused the login. */
  const refused = new WeakSet<SwarmObject>();
  await presence.look();

  async function idOf(object: SwarmObject, signal: AbortSignal): Promise<string | undefined> {
    const { digestIds } = task;
    if (digestIds) return object.digest.slice(object.digest.indexOf(':') + 1);
    const location = await object.location(signal, false);
    return (
      location &&
      taskId({
        ...task,
        url: location.url.href,
        filteredQueryParams: FILTERED_QUERY_PARAMS,
        enableTaskIdBasedBlobDigest: false,
      })
    );
  }

  function note(object: SwarmObject, { verdict, error }: Judgement): NymphError {
    if (verdict === 'login') refused.add(object);
    if (verdict === 'retry' && error.retryAfter === undefined) unseeded.add(object);
    if (verdict === 'give up') {
      health.failed(NAME, error);
      void presence.look();
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
    const timer = deadline(signal, what);
    const answers = client.download(downloadOf(object.digest, location, task, !unseeded.has(object)), timer.signal);
    const next = async (milliseconds: number): Promise<DownloadAnswer | undefined> => {
      try {
        timer.within(milliseconds);
        const { value, done } = await answers.next();
        return done ? undefined : value;
      } catch (error) {
        if (signal.aborted) throw new NymphError('cancelled', `${what}: cancelled`);
        throw note(object, judge(what, timer.expired() ?? error));
      } finally {
        timer.stop();
      }
    };
    const stop = async () => {
      timer.end();
      await answers.return();
    };
    const first = await next(START_TIMEOUT);
    const started = first?.downloadTaskStartedResponse;
    if (started === undefined) {
      await stop();
      throw note(object, judge(what, new NymphError('source', `dfdaemon began ${what} without a start`)));
    }
    health.succeeded(NAME);
    const size = started.contentLength ?? 0;
    return { size, pieces: checkedPieces(what, size, () => next(PIECE_TIMEOUT), stop) };
  }

  return {
    name: NAME,
    available: () => presence.there() && !health.isResting(NAME),
    async look(object) {
      const id = await idOf(object, AbortSignal.timeout(STAT_TIMEOUT)).catch(() => undefined);
      if (id === undefined) return undefined;
      const [known, local] = await Promise.allSettled([
        client.statTask(id, STAT_TIMEOUT),
        client.statLocalTask(id, STAT_TIMEOUT),
      ]);
      if (local.status === 'fulfilled' && local.value.finishedAt !== undefined) return true;
      // The scheduler says NOT_FOUND of a task that nobody has asked for.
      if (known.status === 'rejected') return known.reason?.code === 5 ? false : undefined;
      return known.value.hasAvailablePeer === true;
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
    close: () => client.close(),
  };
}

/** A daemon that gets no access where we do: the object comes from elsewhere. */
function noAccess({ code, message, cause }: NymphError): NymphError {
  return new NymphError(code, message, { cause });
}

/** A signal that is aborted with another, or when something takes too long. */
function deadline(outer: AbortSignal, what: string) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  let expired: NymphError | undefined;
  let timer: NodeJS.Timeout | undefined;
  outer.addEventListener('abort', abort, { once: true });
  if (outer.aborted) abort();
  return {
    signal: controller.signal,
    expired: () => expired,
    within(milliseconds: number) {
      timer = setTimeout(() => {
        expired = new NymphError('timeout', `dfdaemon sent nothing of ${what} for ${milliseconds / 1000} s`, {
          retryable: true,
        });
        abort();
      }, milliseconds);
      timer.unref();
    },
    stop: () => clearTimeout(timer),
    end() {
      clearTimeout(timer);
      outer.removeEventListener('abort', abort);
      abort();
    },
  };
}
