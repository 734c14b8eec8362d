/** Simulated time: what happens, in order. Milliseconds. */
export interface Clock {
  readonly now: number;
  /** @returns withdraws it */
  at(time: number, act: () => void): () => void;
  /** Until nothing is left to happen, or `end` is reached. */
  run(end: number): void;
}

interface Event {
  time: number;
  act: (() => void) | undefined;
}

export function createClock(): Clock {
  const heap: Event[] = [];
  let now = 0;

  function push(event: Event): void {
    let i = heap.push(event) - 1;
    for (let parent = (i - 1) >> 1; i > 0 && heap[parent].time > event.time; i = parent, parent = (i - 1) >> 1)
      heap[i] = heap[parent];
    heap[i] = event;
  }

  function pop(): Event {
    const first = heap[0];
    const last = heap.pop()!;
    const size = heap.length;
    if (size === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && heap[child + 1].time < heap[child].time) child++;
      if (heap[child].time >= last.time) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = last;
    return first;
  }

  return {
    get now() {
      return now;
    },
    at(time, act) {
      const event: Event = { time: Math.max(time, now), act };
      push(event);
      return () => {
        event.act = undefined;
      };
    },
    run(end) {
      while (heap.length > 0 && heap[0].time <= end) {
        const { time, act } = pop();
        if (act === undefined) continue;
        now = time;
        act();
      }
    },
  };
}
