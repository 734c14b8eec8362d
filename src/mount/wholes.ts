import type { Cache, CachedBlob } from '../cache/cache.ts';
import { coveredBlocks } from '../cache/readiness.ts';
import { clearReady, countReady, createReadyMap, type ReadyMap } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { Driver } from '../fuse/driver.ts';
import { createJointFill, type JointFill, unlessAborted } from './joint-fill.ts';
import type { Entry, ServedBlob } from './served-entry.ts';
import { createWholeChecks } from './whole-checks.ts';

/**
 * What becomes of blobs whose chunks have no digests when the whole is checked: it is right, or it is removed and reads
 * of it fail. Blobs whose chunks have digests pass through here with nothing done.
 */
export interface Wholes {
  /** Shows a blob to the driver, and has it checked as soon as it is complete. */
  admit(entry: Entry): void;
  /** From now on nothing of it is read before it is checked. */
  hide(entry: Entry): Promise<void>;
  /** Bits of a blob were set. */
  changed(blob: CachedBlob): void;
  /** Resolves when reads may go on. @throws NymphError `corrupt` if the file is wrong */
  mayRead(entry: Entry, signal: AbortSignal): Promise<void>;
  /** Resolves when nothing reads the descriptor for a check any more. */
  leave(entry: Entry): Promise<void>;
  /** As in ServedBlobs. */
  checked(served: ServedBlob, signal: AbortSignal): Promise<void>;
  recheck(served: ServedBlob, signal: AbortSignal): Promise<WholeCheck>;
  /** Its headers were others when they were believed: nobody may read it as they said. */
  reject(served: ServedBlob): Promise<void>;
}

export type WholeCheck = 'right' | 'repaired' | 'bad';

interface Case {
  readonly entry: Entry;
  /** What the driver sees in place of the blob's own map, until it is checked: nothing. */
  hidden?: ReadyMap;
  /** The check has ended; rejects where it found other bytes, and where it could not be made: the next one is another. */
  judged: PromiseWithResolvers<void>;
  /** Why it could not be made, and when (`performance.now()`). */
  unchecked?: { error: NymphError; at: number };
  readonly fill: JointFill;
  condemned: boolean;
  /** Takes the next digest of the whole in place of a judgement. */
  asked?: (found: string | undefined) => void;
  /** The last one who rechecks it: one at a time, because each asks for the digest. */
  rechecked?: Promise<unknown>;
}

/** A check that could not be made is not tried again before, ms: it reads all of a file. */
const AGAIN_MS = 1_000;
const never = new AbortController().signal;

/** @param dropPages has the kernel forget what it has read of a blob. */
export function createWholes(
  cache: Cache,
  driver: Driver,
  context: FetchContext,
  dropPages: (cached: CachedBlob) => Promise<void>,
): Wholes {
  const { log } = context;
  const cases = new WeakMap<CachedBlob, Case>();
  const checks = createWholeChecks({
    checked: judge,
    piecesOf: (cached) => cases.get(cached)?.entry.pieces,
    wrongPiece,
    log,
  });

  function admit(entry: Entry): void {
    const { cached } = entry;
    if (cached.standing !== undefined) {
      const judged = judgement();
      const fill = createJointFill(entry.fetcher, cached.size);
      cases.set(cached, { entry, judged, fill, condemned: cached.standing === 'wrong' });
      if (cached.standing === 'wrong') {
        judged.reject(wrongFile(cached));
        return;
      }
    }
    show(cached, cached.ready);
    checks.follow(cached);
  }

  function show(cached: CachedBlob, ready: ReadyMap): void {
    const { ino, size, fd } = cached;
    const isFinal = () => ready === cached.ready && isFinalBlob(cached);
    driver.register({ ino, size, fd, ready, isFinal });
  }

  async function hide({ cached }: Entry): Promise<void> {
    const known = cases.get(cached);
    if (known === undefined || known.hidden !== undefined || cached.standing !== 'pending') return;
    known.hidden = createReadyMap(cached.size);
    await driver.unregister(cached.ino);
    // It may have been found right meanwhile, and be shown already; or wrong.
    if (known.hidden !== undefined && !known.condemned) show(cached, known.hidden);
  }

  async function mayRead(entry: Entry, signal: AbortSignal): Promise<void> {
    const known = cases.get(entry.cached);
    if (known === undefined) return;
    if (known.condemned) throw wrongFile(entry.cached);
    if (known.hidden === undefined) return;
    await known.fill(signal);
    await judgementOf(known, signal);
  }

  /** Waits for the check of a file; one that could not be made is made again, though not at once. */
  async function judgementOf(known: Case, signal: AbortSignal): Promise<void> {
    const { unchecked, judged } = known;
    if (unchecked !== undefined && performance.now() - unchecked.at < AGAIN_MS) throw unchecked.error;
    checks.follow(known.entry.cached);
    await unlessAborted(judged.promise, signal);
  }

  /** The whole of a blob has been hashed. */
  async function judge(cached: CachedBlob, found: string | undefined): Promise<void> {
    const known = cases.get(cached);
    if (known === undefined || known.entry.closing !== undefined) return;
    if (known.asked !== undefined) return known.asked(found);
    if (found === undefined) {
      known.unchecked = { error: cannotCheck(cached), at: performance.now() };
      known.judged.reject(known.unchecked.error);
      known.judged = judgement();
      return;
    }
    if (found === cached.whole?.hex) return acquit(known);
    return condemn(known, found);
  }

  /** Who has read it has read wrong bytes, most likely; from now on nobody does until it has come again. */
  function wrongPiece(cached: CachedBlob, offset: number, size: number, again: boolean): void {
    const entry = cases.get(cached)?.entry;
    if (entry === undefined || entry.closing !== undefined || cached.standing !== 'pending') return;
    const fields = { blob: cached.key, offset, size, source: entry.places[0].name };
    if (!again) {
      log('error', 'a piece of a file came again without its checksum: the digest of the whole decides', fields);
      return;
    }
    log('warn', 'a piece of a file does not have its checksum, fetching it again', fields);
    clearReady(cached.ready, offset, size);
    context.changed(cached);
    void refetch(entry, offset, size).catch((error) => {
      log('warn', 'a piece of a file was not fetched again', { ...fields, error: (error as Error).message });
    });
  }

  /** The kernel forgets first: once the whole is found right nobody may read what was wrong. */
  async function refetch({ cached, fetcher }: Entry, offset: number, size: number): Promise<void> {
    try {
      await dropPages(cached);
    } finally {
      await fetcher.fill(offset, size, never);
    }
  }

  async function acquit(known: Case): Promise<void> {
    const { cached, reads } = known.entry;
    const kept = cache.settle(cached, 'right');
    // It reads the descriptor, as they do.
    reads.add(kept);
    log('info', 'a file is complete and right', { blob: cached.key, algorithm: cached.whole?.algorithm });
    if (known.hidden !== undefined) {
      await driver.unregister(cached.ino);
      known.hidden = undefined;
      if (known.entry.closing === undefined) show(cached, cached.ready);
    }
    known.judged.resolve();
    await kept;
    reads.delete(kept);
  }

  /** The bytes of a file are not what its digest says: nobody gets them from now on, and the cache does not keep them. */
  async function condemn(known: Case, found: string): Promise<void> {
    const { cached, fetcher, places, reads } = known.entry;
    const { whole } = cached;
    known.condemned = true;
    log('error', 'A FILE IS NOT WHAT ITS DIGEST SAYS: it is removed, and reads of it fail from now on', {
      blob: cached.key,
      algorithm: whole?.algorithm,
      expected: whole?.hex,
      found,
      source: places[0]?.name,
    });
    known.judged.reject(wrongFile(cached));
    await fetcher.close();
    await driver.unregister(cached.ino);
    await Promise.allSettled(reads);
    await cache.settle(cached, 'wrong');
    await dropPages(cached);
  }

  async function checked({ cached }: ServedBlob, signal: AbortSignal): Promise<void> {
    const known = cases.get(cached);
    if (known === undefined || cached.whole === undefined || cached.standing === 'right') return;
    await judgementOf(known, signal);
  }

  async function recheck(served: ServedBlob, signal: AbortSignal): Promise<WholeCheck> {
    const known = cases.get(served.cached);
    if (known === undefined) return 'bad';
    const before = known.rechecked;
    const mine = (async () => {
      await before?.catch(() => {});
      return recheckCase(known, served, signal);
    })();
    known.rechecked = mine;
    return unlessAborted(mine, signal);
  }

  async function recheckCase(known: Case, { cached, fetcher }: ServedBlob, signal: AbortSignal): Promise<WholeCheck> {
    if (known.condemned) return 'bad';
    if ((await hashed(known, signal)) === cached.whole?.hex) {
      await acquit(known);
      return 'right';
    }
    log('error', 'a cached file is wrong, fetching it again', { blob: cached.key });
    clearReady(cached.ready, 0, cached.size);
    context.changed(cached);
    await fetcher.fill(0, cached.size, signal);
    const found = await hashed(known, signal);
    if (found === cached.whole?.hex) {
      await acquit(known);
      return 'repaired';
    }
    await condemn(known, found ?? 'cannot be read');
    return 'bad';
  }

  /** The digest of a complete file, as the disk gives it now. */
  async function hashed(known: Case, signal: AbortSignal): Promise<string | undefined> {
    const { cached } = known.entry;
    const answer = Promise.withResolvers<string | undefined>();
    // Before anything is waited for: it may be on its way already.
    known.asked = answer.resolve;
    try {
      await cache.settle(cached, 'pending');
      checks.follow(cached);
      return await unlessAborted(answer.promise, signal);
    } finally {
      known.asked = undefined;
    }
  }

  return {
    admit,
    hide,
    mayRead,
    changed: checks.changed,
    leave: ({ cached }) => checks.leave(cached),
    checked,
    recheck,
    async reject({ cached }) {
      const known = cases.get(cached);
      if (known !== undefined && !known.condemned) await condemn(known, 'other headers than were read before');
    },
  };
}

/** All of it is here, and as sure as it ever will be. */
function isFinalBlob({ standing, whole, ready, chunks }: CachedBlob): boolean {
  if (whole !== undefined) return standing === 'right';
  return countReady(ready) >= coveredBlocks(chunks);
}

function judgement(): PromiseWithResolvers<void> {
  const judged = Promise.withResolvers<void>();
  // Mostly nobody waits for it.
  judged.promise.catch(() => {});
  return judged;
}

function cannotCheck(cached: CachedBlob): NymphError {
  return new NymphError('cache', `blob ${cached.key} cannot be checked`, {
    hint: 'It is tried again with the next read. If the log says that the disk does not give it back, `nymph verify` fetches it anew.',
  });
}

function wrongFile(cached: CachedBlob): NymphError {
  return new NymphError('corrupt', `blob ${cached.key} is not what its digest says: it came wrong from its source`, {
    hint: 'Unmount the image, and mount it again once its source is right.',
  });
}
