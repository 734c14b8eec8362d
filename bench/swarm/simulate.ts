/**
 * Many nodes start one image at once. Measured, and put in as it is: how long dfdaemon takes to its first piece and between
 * pieces (`record.ts`), how many faults a start has and how large they are. Modelled: the
 * network, as a registry whose way out is shared by all flows, and peers that send a few pieces at a time; the scheduler's
 * choice of parents, at random among those that have begun; and the race, as a fault that takes what is first.
 */
import { createClock } from './clock.ts';
import { createSharedLink } from './shared-link.ts';

export type Mode = 'registry' | 'dragonfly' | 'race';

export interface Behaviour {
  /** ms from the start of a stream to its first piece, and between two pieces of 4 MiB, when a peer has all. */
  first: number[];
  gap: number[];
}

export interface Setting {
  nodes: number;
  mode: Mode;
  behaviour: Behaviour;
  /** Bytes of the blob, and of a piece. */
  size: number;
  piece: number;
  /** Requests that a start waits for, one after another, and their bytes together. */
  faults: number;
  faultBytes: number;
  /** ms of computing in all, and of a round trip to the registry. */
  computing: number;
  roundTrip: number;
  /** Bytes a ms: of the registry, and of each node. */
  registryRate: number;
  nodeRate: number;
  /** Bytes a ms that one node may ask of the registry (`fetch.budget`). */
  budget?: number;
  seed?: number;
}

export interface Outcome {
  /** Bytes that the registry has sent until all have started, and by the time that all have all. */
  originBytes: number;
  /** ms to a start, over the nodes. */
  start: { p50: number; p99: number; max: number };
}

/** Pieces that a peer sends at a time; each of them at its share of the way out. */
const UPLOADS = 4;
/** Pieces that a node asks for at a time, and peers that it knows. */
const DOWNLOADS = 4;
const PARENTS = 4;
/** A node that finds nobody looks again after so many ms. */
const AGAIN = 100;
const LIMIT = 3_600_000;

interface Node {
  index: number;
  has: Uint8Array;
  count: number;
  asked: Uint8Array;
  parents: Node[];
  uploads: number;
  queue: (() => void)[];
  /** Called when a piece is here. */
  waiting: Map<number, (() => void)[]>;
  /** Bytes that it may ask of the registry, as of a time. */
  budget: { left: number; at: number };
  downloads: number;
}

export function simulate(setting: Setting): Outcome {
  const { nodes: count, mode, behaviour, size, piece, faults, faultBytes, roundTrip, registryRate, nodeRate } = setting;
  const clock = createClock();
  const random = randomOf(setting.seed ?? 1);
  const registry = createSharedLink(clock, registryRate, nodeRate);
  const pieces = Math.ceil(size / piece);
  const sample = (list: number[]) => list[Math.floor(random() * list.length)];
  const seed = nodeOf(-1);
  const begun: Node[] = [seed];
  const starts: number[] = [];
  let seeding = false;

  function nodeOf(index: number): Node {
    const flags = () => new Uint8Array(pieces);
    return {
      index,
      has: flags(),
      count: 0,
      asked: flags(),
      parents: [],
      uploads: 0,
      queue: [],
      waiting: new Map(),
      downloads: 0,
      budget: { left: (setting.budget ?? 0) * 1000, at: 0 },
    };
  }

  function got(node: Node, at: number): void {
    if (node.has[at]) return;
    node.has[at] = 1;
    node.count++;
    if (node.count === 1 && node !== seed) begun.push(node);
    for (const tell of node.waiting.get(at) ?? []) tell();
    node.waiting.delete(at);
  }

  /** The seed gets the blob from the registry, in order, a few pieces at a time. */
  function feed(): void {
    if (seeding) return;
    seeding = true;
    let next = 0;
    const more = () => {
      if (next === pieces) return;
      const at = next++;
      clock.at(clock.now + roundTrip, () =>
        registry.send(piece, () => {
          got(seed, at);
          more();
        }),
      );
    };
    for (let i = 0; i < DOWNLOADS; i++) more();
  }

  /** A peer sends a piece when one of its turns is free; what dfdaemon takes between pieces is the least that it costs. */
  function upload(parent: Node, done: () => void): void {
    const send = () => {
      parent.uploads++;
      const busy = Math.max(sample(behaviour.gap), (piece * UPLOADS) / nodeRate);
      clock.at(clock.now + busy, () => {
        parent.uploads--;
        parent.queue.shift()?.();
        done();
      });
    };
    if (parent.uploads < UPLOADS) send();
    else parent.queue.push(send);
  }

  function stream(node: Node): void {
    feed();
    clock.at(clock.now + sample(behaviour.first), () => pull(node));
  }

  function pull(node: Node): void {
    if (node.count === pieces) return;
    if (node.parents.length < PARENTS || random() < 0.1) {
      const found = begun[Math.floor(random() * begun.length)];
      if (found !== node && !node.parents.includes(found)) node.parents.push(found);
      if (node.parents.length > PARENTS) node.parents.shift();
    }
    let idle = true;
    while (node.downloads < DOWNLOADS) {
      const choice = choose(node);
      if (choice === undefined) break;
      idle = false;
      const { parent, at } = choice;
      node.asked[at] = 1;
      node.downloads++;
      upload(parent, () => {
        node.downloads--;
        got(node, at);
        pull(node);
      });
    }
    if (idle && node.downloads === 0) clock.at(clock.now + AGAIN * (0.5 + random()), () => pull(node));
  }

  function choose(node: Node): { parent: Node; at: number } | undefined {
    const first = Math.floor(random() * node.parents.length);
    for (let i = 0; i < node.parents.length; i++) {
      const parent = node.parents[(first + i) % node.parents.length];
      if (parent.queue.length > UPLOADS) continue;
      for (let at = 0; at < pieces; at++) if (parent.has[at] && !node.asked[at]) return { parent, at };
    }
    return undefined;
  }

  /** A start: its faults one after another, each by whatever the mode allows. */
  function start(node: Node): void {
    const bytes = faultBytes / faults;
    let left = faults;
    const next = () => {
      if (left-- === 0) {
        starts.push(clock.now);
        return;
      }
      clock.at(clock.now + setting.computing / faults, () => fault(Math.floor(random() * pieces), next));
    };
    const fault = (at: number, done: () => void) => {
      if (mode !== 'registry' && node.has[at]) return done();
      let over = false;
      let cancel: (() => void) | undefined;
      const first = () => {
        if (over) return;
        over = true;
        cancel?.();
        done();
      };
      if (mode !== 'registry') node.waiting.set(at, [...(node.waiting.get(at) ?? []), first]);
      if (mode === 'dragonfly') return;
      clock.at(clock.now + owed(node), () => {
        if (over) return;
        node.budget.left -= bytes;
        clock.at(clock.now + roundTrip, () => {
          if (!over) cancel = registry.send(bytes, first);
        });
      });
    };
    next();
  }

  /** ms that a reader waits for the budget, which it does only where a stream may bring what it wants. */
  function owed({ budget }: Node): number {
    const { budget: rate } = setting;
    if (rate === undefined || mode !== 'race') return 0;
    budget.left = Math.min(1000 * rate, budget.left + (clock.now - budget.at) * rate);
    budget.at = clock.now;
    return budget.left > 0 ? 0 : Math.min(5_000, -budget.left / rate);
  }

  for (let i = 0; i < count; i++) {
    const node = nodeOf(i);
    if (mode !== 'registry') stream(node);
    start(node);
  }
  clock.run(LIMIT);
  starts.sort((a, b) => a - b);
  const at = (share: number) => starts[Math.min(starts.length - 1, Math.floor(starts.length * share))] ?? LIMIT;
  return { originBytes: registry.sent(), start: { p50: at(0.5), p99: at(0.99), max: at(1) } };
}

/** mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
