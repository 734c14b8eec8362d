import { NymphError } from '../../errors.ts';
import type { SwarmFile, SwarmStream } from '../swarm.ts';
import { connectDfdaemon } from './client.ts';
import { deadline } from './deadline.ts';
import { isLinkFailure, type Links } from './links.ts';
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

/**
 * By `DfdaemonDownload`, on a unix socket: whole pieces, as they come.
 * @param named a person has named the endpoint
 * @param links without them all bytes come through the socket
 */
export function byGrpc(endpoint: string, named: boolean, log: PresenceLog, links?: Links): Way {
  const client = connectDfdaemon(endpoint);
  const appeared = () => {
    links?.reset();
    client.warm();
  };
  const presence = watchEndpoint(endpoint, named, appeared, log);

  async function download(request: Download, what: string, signal: AbortSignal): Promise<SwarmStream> {
    const path = request.needPieceContent ? await links?.path() : undefined;
    if (path === undefined) return begin(request, what, signal);
    const { digest: _, ...linked } = { ...request, outputPath: path, forceHardLink: true, needPieceContent: false };
    try {
      return await begin(linked, what, signal, path);
    } catch (error) {
      if (!isLinkFailure(error) || signal.aborted) throw error;
      log.debug({ error: (error as Error).message }, 'dfdaemon cannot link its files to here');
      await links?.refuse(path);
      return begin(request, what, signal);
    }
  }

  /** @param path of the link that is asked for */
  async function begin(request: Download, what: string, signal: AbortSignal, path?: string): Promise<SwarmStream> {
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
      const file: SwarmFile | undefined = path === undefined ? undefined : await links?.open(path, size);
      const pieces = checkedPieces(what, size, request.needPieceContent, () => next(PIECE_TIMEOUT), stop);
      return { size, pieces, ...(file && { file }) };
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
