import { Worker } from 'node:worker_threads';
import type { CachedBlob } from '../cache/cache.ts';
import { countClears, isReady } from '../cache/ready-map.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { PieceChecksum } from '../image/files.ts';
import type { FromWholeThread, ToWholeThread } from './whole-messages.ts';

/**
 * Checks files whose chunks have no digests, each as soon as all of it is here. Their thread is started for the first
 * and goes when there was none for a while.
 */
export interface WholeChecks {
  /** Looks after a blob that is not checked yet; for others nothing happens. */
  follow(blob: CachedBlob): void;
  /** More of a blob is here. Cheap: it is called for each piece. */
  changed(blob: CachedBlob): void;
  /** Resolves when nothing reads the descriptor for it any more. */
  leave(blob: CachedBlob): Promise<void>;
}

interface Followed {
  readonly blob: CachedBlob;
  /** The thread knows it: of a file that somebody only begins to read nothing is hashed before it goes on. */
  begun: boolean;
  /** Threads that died with it. */
  deaths: number;
}

/** The thread is told of new bytes so often, ms. */
const LOOK_MS = 20;
const IDLE_MS = 5_000;
/** A file with which so many threads died is given up. */
const MOST_DEATHS = 3;

export interface WholeChecksParts {
  /** Is called once for each blob that was followed and is whole, with its digest; without where the disk does not give it back. */
  checked(blob: CachedBlob, found: string | undefined): void;
  /** Checksums of its pieces, where there are some. */
  piecesOf(blob: CachedBlob): readonly PieceChecksum[] | undefined;
  /** A piece does not have its checksum. @param again it may be right when it is fetched once more */
  wrongPiece(blob: CachedBlob, offset: number, size: number, again: boolean): void;
  log: FetchContext['log'];
}

export function createWholeChecks({ checked, piecesOf, wrongPiece, log }: WholeChecksParts): WholeChecks {
  const followed = new Map<number, Followed>();
  const leaving = new Map<number, () => void>();
  const looks = new Set<number>();
  let worker: Worker | undefined;
  let idleTimer: NodeJS.Timeout | undefined;

  function follow(blob: CachedBlob): void {
    if (blob.standing !== 'pending' || blob.whole === undefined || followed.has(blob.ino)) return;
    followed.set(blob.ino, { blob, begun: false, deaths: 0 });
    if (isReady(blob.ready, 0, blob.size)) look(blob.ino);
  }

  function changed(blob: CachedBlob): void {
    if (blob.standing !== 'pending') return;
    follow(blob);
    if (looks.size === 0) setTimeout(lookAll, LOOK_MS).unref();
    looks.add(blob.ino);
  }

  function lookAll(): void {
    const inos = [...looks];
    looks.clear();
    inos.forEach(look);
  }

  function look(ino: number): void {
    const entry = followed.get(ino);
    if (entry === undefined) return;
    const { fd, size, ready, whole } = entry.blob;
    const pieces = piecesOf(entry.blob);
    if (entry.begun) tell({ type: 'look', ino });
    else
      tell({
        ...{ type: 'follow', ino, fd, size, ready: ready.words.buffer, algorithm: whole!.algorithm },
        ...(pieces && { pieces }),
      });
    entry.begun = true;
  }

  async function leave({ ino }: CachedBlob): Promise<void> {
    const entry = followed.get(ino);
    followed.delete(ino);
    looks.delete(ino);
    if (!entry?.begun) return;
    await new Promise<void>((resolve) => {
      leaving.set(ino, resolve);
      tell({ type: 'leave', ino });
    });
  }

  function tell(message: ToWholeThread): void {
    clearTimeout(idleTimer);
    worker ??= start();
    worker.postMessage(message);
  }

  function start(): Worker {
    const started = new Worker(new URL(`./whole-thread${import.meta.url.slice(-3)}`, import.meta.url), {
      name: 'check',
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32, stackSizeMb: 1 },
    });
    started.on('message', receive);
    started.on('error', (error) => {
      log('error', 'the thread that checks whole files died: what is under way is begun anew', {
        error: String(error),
      });
      worker = undefined;
      for (const done of leaving.values()) done();
      leaving.clear();
      for (const entry of [...followed.values()].filter(({ begun }) => begun)) bury(entry);
    });
    started.unref();
    return started;
  }

  /** A thread died while it knew a file. */
  function bury(entry: Followed): void {
    const { blob } = entry;
    entry.begun = false;
    entry.deaths++;
    if (entry.deaths < MOST_DEATHS) look(blob.ino);
    else {
      followed.delete(blob.ino);
      checked(blob, undefined);
    }
  }

  function receive(message: FromWholeThread): void {
    const { ino } = message;
    const entry = followed.get(ino);
    if (message.type === 'left') {
      leaving.get(ino)?.();
      leaving.delete(ino);
    } else if (message.type === 'piece') {
      if (entry !== undefined) wrongPiece(entry.blob, message.offset, message.size, message.again);
      return;
    } else if (entry !== undefined) {
      followed.delete(ino);
      settle(message, entry.blob);
    }
    if (![...followed.values()].some(({ begun }) => begun) && leaving.size === 0)
      idleTimer = setTimeout(end, IDLE_MS).unref();
  }

  function settle(message: Exclude<FromWholeThread, { type: 'left' | 'piece' }>, blob: CachedBlob): void {
    if (message.type === 'failed') {
      log('error', 'a file cannot be checked: the disk does not give it back', {
        blob: blob.key,
        error: message.error,
      });
      checked(blob, undefined);
    }
    // Something was cleared while it was hashed: what was found is not true of what is there.
    else if (message.clears !== countClears(blob.ready)) follow(blob);
    else checked(blob, message.hex);
  }

  function end(): void {
    void worker?.terminate();
    worker = undefined;
  }

  return { follow, changed, leave };
}
