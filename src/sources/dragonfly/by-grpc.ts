import { NymphError } from '../../errors.ts';
import type { SwarmStream } from '../swarm.ts';
import { connectDfdaemon } from './client.ts';
import { deadline } from './deadline.ts';
import type { Download, DownloadAnswer } from './messages.ts';
import { checkedPieces } from './pieces.ts';
import { type PresenceLog, watchEndpoint } from './presence.ts';
import { isNotFound, judge } from './verdict.ts';
import type { Way } from './way.ts';

/** Readers wait for the answer: later it is worth nothing, ms. */
const STAT_TIMEOUT = 250;
/** How long a daemon may take to find an object's size, and between two pieces of up to 64 MiB, ms. */
const START_TIMEOUT = 20_000;
const PIECE_TIMEOUT = 60_000;

/** By `DfdaemonDownload`, on a unix socket: whole pieces, as they come. @param named a person has named the endpoint */
export function byGrpc(endpoint: string, named: boolean, log: PresenceLog): Way {
  const client = connectDfdaemon(endpoint);
  const presence = watchEndpoint(endpoint, named, client.warm, log);

  async function download(request: Download, what: string, signal: AbortSignal): Promise<SwarmStream> {
    const timer = deadline(signal, `dfdaemon sent nothing of ${what}`);
    const answers = client.download(request, timer.signal);
    const next = async (milliseconds: number): Promise<DownloadAnswer | undefined> => {
      const { value, done } = await timer.within(milliseconds, answers.next());
      return done ? undefined : (value as DownloadAnswer);
    };
    const stop = async () => {
      timer.end();
      await answers.return();
    };
    try {
      const started = (await next(START_TIMEOUT))?.downloadTaskStartedResponse;
      if (started === undefined) throw new NymphError('source', `dfdaemon began ${what} without a start`);
      const size = started.contentLength ?? 0;
      return { size, pieces: checkedPieces(what, size, () => next(PIECE_TIMEOUT), stop) };
    } catch (error) {
      await stop();
      throw error;
    }
  }

  return {
    there: presence.there,
    look: presence.look,
    download,
    judge,
    async stat(taskId) {
      const [known, local] = await Promise.allSettled([
        client.statTask(taskId, STAT_TIMEOUT),
        client.statLocalTask(taskId, STAT_TIMEOUT),
      ]);
      if (local.status === 'fulfilled' && local.value.finishedAt !== undefined) return true;
      // The scheduler does not know a task that nobody has asked for.
      if (known.status === 'rejected') return isNotFound(known.reason) ? false : undefined;
      const { state = '', peerCount = 0, hasAvailablePeer = false } = known.value;
      // The scheduler of 2.5 leaves `has_available_peer` out.
      return hasAvailablePeer || (peerCount > 0 && (state === 'Running' || state === 'Succeeded'));
    },
    close: client.close,
  };
}
