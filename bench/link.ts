/**
 * One direction of a network path, in memory: a bandwidth that all flows share in turns, then a constant delay.
 * No loss and no slow start: a path that a warm, well-tuned connection sees.
 */

export interface Flow {
  /** Pieces that wait for the link, oldest first. `null` = end of the stream. */
  readonly queue: (Buffer | null)[];
  /** Called when a piece has crossed. */
  readonly deliver: (piece: Buffer | null) => void;
  /** Whether the flow is in the link's round. */
  waiting: boolean;
  dead: boolean;
}

export interface Link {
  /** Puts a piece into a flow's queue. */
  send(flow: Flow, piece: Buffer | null): void;
  /** Bytes that have crossed. */
  bytes(): number;
  close(): void;
}

/** Deliveries are this early at most, as timers wake once a millisecond: then the mean error is near zero. */
const EARLY = 0.5;

/**
 * @param delay one way, ms
 * @param rate bits per second; `Infinity` for no limit
 */
export function createLink(delay: number, rate: number): Link {
  const msPerByte = 8000 / rate;
  // About a millisecond of the link at a time, so that one flow's large piece does not hold up the others.
  const quantum = Math.min(65536, Math.max(1460, Math.floor(1 / msPerByte)));
  const round: Flow[] = [];
  /** On the way, ascending by arrival because the delay is the same for all. */
  let crossing: { flow: Flow; piece: Buffer | null; at: number }[] = [];
  let free = 0;
  let bytes = 0;
  let timer: NodeJS.Timeout | undefined;
  let immediate: NodeJS.Immediate | undefined;
  let wakeAt = Infinity;
  let closed = false;

  /** Takes pieces from the flows in turns, as far as the link has come by now. */
  function load(now: number): void {
    while (round.length > 0 && free <= now + EARLY) {
      const flow = round.shift()!;
      if (flow.dead) continue;
      let piece = flow.queue[0];
      if (piece && piece.length > quantum) {
        flow.queue[0] = piece.subarray(quantum);
        piece = piece.subarray(0, quantum);
      } else flow.queue.shift();
      free += (piece?.length ?? 0) * msPerByte;
      crossing.push({ flow, piece, at: free + delay });
      flow.waiting = flow.queue.length > 0;
      if (flow.waiting) round.push(flow);
    }
  }

  function run(): void {
    wakeAt = Infinity;
    const now = performance.now();
    load(now);
    let arrived = 0;
    while (arrived < crossing.length && crossing[arrived].at <= now + EARLY) arrived++;
    const here = crossing.slice(0, arrived);
    crossing = crossing.slice(arrived);
    for (const { flow, piece } of here) {
      if (flow.dead) continue;
      bytes += piece?.length ?? 0;
      flow.deliver(piece);
    }
    schedule();
  }

  function schedule(): void {
    const next = Math.min(crossing[0]?.at ?? Infinity, round.length > 0 ? free : Infinity);
    if (closed || next === Infinity || next >= wakeAt) return;
    cancel();
    wakeAt = next;
    const wait = next - performance.now();
    if (wait <= EARLY) immediate = setImmediate(run);
    else timer = setTimeout(run, Math.max(1, Math.floor(wait)));
  }

  function cancel(): void {
    clearTimeout(timer);
    clearImmediate(immediate);
    wakeAt = Infinity;
  }

  return {
    send(flow, piece) {
      if (flow.dead || closed) return;
      const now = performance.now();
      // An idle link saves up no credit; a late timer under load does, so the rate is kept.
      if (round.length === 0) free = Math.max(free, now);
      flow.queue.push(piece);
      if (!flow.waiting) {
        flow.waiting = true;
        round.push(flow);
      }
      load(now);
      schedule();
    },
    bytes: () => bytes,
    close() {
      closed = true;
      cancel();
      crossing = [];
      round.length = 0;
    },
  };
}
