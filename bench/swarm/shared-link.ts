import type { Clock } from './clock.ts';

/** A link whose flows get equal shares: a registry's way out, as many connections of TCP share it. */
export interface SharedLink {
  /** Sends so many bytes, at most at `limit` bytes a ms; `done` when they are there. @returns ends it early */
  send(bytes: number, done: () => void): () => void;
  /** Bytes that have gone through. */
  sent(): number;
}

interface Flow {
  /** Bytes that each flow has had when this one is done. */
  end: number;
  done: (() => void) | undefined;
}

/** @param rate bytes a ms of all flows together @param most of one flow */
export function createSharedLink(clock: Clock, rate: number, most: number): SharedLink {
  /** Ascending by `end`: all that are there get the same, so those that came with more to go end later. */
  const flows: Flow[] = [];
  /** Bytes that a flow would have had that was there from the start. */
  let level = 0;
  let at = 0;
  let total = 0;
  let withdraw: (() => void) | undefined;

  const share = () => Math.min(most, rate / Math.max(1, flows.length));

  function advance(): void {
    const passed = clock.now - at;
    level += passed * share();
    total += passed * share() * flows.length;
    at = clock.now;
  }

  function schedule(): void {
    withdraw?.();
    withdraw = undefined;
    if (flows.length === 0) return;
    withdraw = clock.at(clock.now + Math.max(0, flows[0].end - level) / share(), () => {
      withdraw = undefined;
      advance();
      const ended: Flow[] = [];
      while (flows.length > 0 && flows[0].end <= level + 1e-6) ended.push(flows.shift()!);
      schedule();
      for (const { done } of ended) done?.();
    });
  }

  return {
    send(bytes, done) {
      advance();
      const flow: Flow = { end: level + bytes, done };
      let low = 0;
      let high = flows.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (flows[middle].end <= flow.end) low = middle + 1;
        else high = middle;
      }
      flows.splice(low, 0, flow);
      schedule();
      return () => {
        const found = flows.indexOf(flow);
        if (found < 0) return;
        advance();
        flows.splice(found, 1);
        schedule();
      };
    },
    sent() {
      advance();
      return total;
    },
  };
}
