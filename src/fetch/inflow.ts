import { NymphError } from '../errors.ts';
import type { SwarmObject } from '../sources/swarm.ts';
import { createFlow, type FlowParts } from './flow.ts';
import { storedEnd } from './frame-index.ts';
import { getAhead } from './get-ahead.ts';
import type { HeadStart } from './head-starts.ts';
import { offer } from './offer.ts';
import { lookTime } from './race.ts';
import { createWholeness } from './wholeness.ts';

/** The stream of one whole blob from a swarm: opened when the blob is first wanted, opened again when it breaks. */
export interface Inflow {
  /** Something of the blob is wanted: opens the stream, if there is none and it is worth it, after so many ms at most. */
  want(delay?: number): void;
  /** Resolves when it is known whether peers have the blob, or cannot be told soon. */
  outlook(): Promise<void>;
  /** Whether there is a stream. */
  readonly active: boolean;
  /** Whether the stream can be relied on for what nobody waits for: pieces come, or are about to. */
  readonly flowing: boolean;
  /** Whether one request may be sent for what is left to the stream, because that is late; it counts as sent. */
  admit(): boolean;
  /** ms until stored bytes before `end` will have come; `Infinity` if they are not to be expected. */
  eta(end: number): number;
  /** Whether the blob is whole: then the stream is ended. */
  check(): void;
  /** Resolves when nothing is under way any more. */
  ended(): Promise<void>;
}

export type InflowParts = Omit<FlowParts, 'isWhole' | 'hasPeers' | 'begun' | 'refused'>;

/** A smaller object costs its source no more than the question who has it. */
export const SMALLEST = 1 << 20;
/** Pauses between attempts, ms. */
const PAUSE = 150;
const MAX_PAUSE = 30_000;
/** Attempts without a piece, after which the blob rests. */
const ATTEMPTS = 10;

export function createInflow(parts: InflowParts): Inflow {
  const { blob, source, swarm, context, ending } = parts;
  const { race, policy, log } = context;
  const { clock } = race;
  const object: SwarmObject = {
    digest: blob.digest,
    location: async (signal, refusals) => source.location?.(signal, refusals),
  };
  let running: Promise<void> | undefined;
  let withdraw: (() => void) | undefined;
  /** Whether peers have the blob. */
  let peers: boolean | undefined;
  /** Settled when the stream is there, or is put off. */
  let begun = Promise.withResolvers<void>();
  let head: HeadStart | undefined;
  let useless = false;
  let restUntil = Number.NEGATIVE_INFINITY;
  const wholeness = createWholeness(blob);
  const { isWhole } = wholeness;
  const flow = createFlow({
    ...parts,
    isWhole,
    hasPeers: () => peers === true,
    begun: () => begun.resolve(),
    refused(reason) {
      context.refused(blob, reason);
      // Nothing can be kept: a stream would only be read and dropped.
      rest();
      flow.stop();
    },
  });

  function rest(): void {
    restUntil = clock.now() + MAX_PAUSE;
  }

  const isResting = () => clock.now() < restUntil;

  function want(delay = 0): void {
    if (running !== undefined || useless || ending.aborted || !race.isOpen()) return;
    if (delay > 0) {
      withdraw ??= clock.after(delay, () => {
        // Whatever comes of it: who wants something later must be able to put it off again.
        withdraw = undefined;
        want();
      });
      return;
    }
    withdraw?.();
    withdraw = undefined;
    if (isResting() || storedEnd(parts.tables()) < SMALLEST || isWhole()) return;
    begun = Promise.withResolvers<void>();
    running = keepUp()
      .catch((error) => {
        if (ending.aborted) return;
        // Of a source that does not tell where the blob is; it is asked again, but not by each reader.
        rest();
        log('warn', 'a blob comes without the swarm for a while', { blob: blob.key, error: String(error) });
      })
      .finally(() => {
        head?.drop();
        head = undefined;
        running = undefined;
        begun.resolve();
      });
  }

  /** Streams, again after a pause where that breaks, until the blob is whole or it is of no use. */
  async function keepUp(): Promise<void> {
    head = race.headStarts?.take(blob.digest);
    await lookAround();
    if (peers === false && policy.streamDelay > 0) {
      begun.resolve();
      // The blob, and who knows where it is, may be closed when it is time.
      const location = await object.location(ending, 0);
      const isNew = async () => {
        await lookAround();
        return peers === false;
      };
      await getAhead({ ...parts, wholeness, pause, isNew });
      if (isWhole()) {
        race.offers.add((signal) =>
          offer(
            swarm,
            { ...object, location: async (_, refusals) => (refusals > 0 ? undefined : location) },
            log,
            signal,
          ),
        );
        return;
      }
    }
    for (let failures = 0; !ending.aborted && race.isOpen(); ) {
      const error = await flow.run(open);
      if (error === undefined || ending.aborted || isWhole() || isResting()) return;
      failures = flow.received > 0 ? 1 : failures + 1;
      useless = !(error instanceof NymphError && error.retryable);
      // A layout on this disk is nothing for a swarm: no news.
      const isNews = useless && !(error instanceof NymphError && error.code === 'unsupported');
      log(isNews ? 'warn' : 'debug', useless ? 'a blob comes without the swarm from now on' : 'a stream ended early', {
        blob: blob.key,
        source: swarm.name,
        received: flow.received,
        error: (error as Error).message,
      });
      if (useless) return;
      if (failures >= ATTEMPTS) return rest();
      const asked = error instanceof NymphError ? (error.retryAfter ?? 0) : 0;
      await pause(Math.min(MAX_PAUSE, Math.max(PAUSE * 2 ** (failures - 1), asked)));
      // A swarm that has gone is found again by whoever wants something of the blob.
      await lookAround();
    }
  }

  /** The stream that was begun ahead, if there is one. */
  async function open(signal: AbortSignal) {
    const begunAhead = head;
    head = undefined;
    const end = () => begunAhead?.end();
    signal.addEventListener('abort', end, { once: true });
    return (await begunAhead?.stream) ?? swarm.open(object, signal);
  }

  /** About so many ms, or until the end. */
  const pause = (milliseconds: number) => clock.sleep(milliseconds * (0.75 + Math.random() / 2), ending);

  /** Finds out whether peers have the blob, if that can be told soon. */
  async function lookAround(): Promise<void> {
    const asked = head?.at ?? clock.now();
    peers = undefined;
    const answer = (head?.peers ?? swarm.look(object)).then((found) => {
      peers = found;
      if (found !== undefined) race.look.add(clock.now() - asked);
    });
    const left = Math.max(0, lookTime(race) - (clock.now() - asked));
    await Promise.race([answer, clock.sleep(left, ending)]);
  }

  return {
    want,
    async outlook() {
      if (running !== undefined) await Promise.race([begun.promise, clock.sleep(2 * lookTime(race), ending)]);
    },
    get active() {
      return flow.active;
    },
    get flowing() {
      if (!flow.active || (flow.isLate && peers !== true)) return false;
      return flow.received > 0 || peers === true;
    },
    admit: flow.admit,
    eta: flow.eta,
    check() {
      if (flow.active && isWhole()) flow.stop();
    },
    async ended() {
      withdraw?.();
      await running;
    },
  };
}
