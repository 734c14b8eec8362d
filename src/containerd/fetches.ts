import type { Descriptor } from '../sources/source.ts';

/** Layers on their way into the content store. */
export interface Fetches {
  /**
   * Resolves when layer number `i` is there; rejects as soon as any fetch fails. The first call starts the fetches of this
   * layer and of all above, as containerd does: where one layer is not lazy, those above seldom are.
   */
  fetched(i: number): Promise<void>;
  /** Resolves when nothing is under way any more. */
  settled(): Promise<void>;
}

/** As many at once as with containerd's own pulls. */
const LANES = 3;

/** @param fetch brings layer number `i`; a blob that is several layers is fetched once */
export function createFetches(layers: readonly Descriptor[], fetch: (i: number) => Promise<void>): Fetches {
  const fetches: Promise<void>[] = [];
  let all: Promise<unknown> | undefined;

  function startFrom(first: number): Promise<unknown> {
    for (let i = first; i < layers.length; i++) {
      const same = layers.findIndex(({ digest }, k) => k >= first && digest === layers[i].digest);
      // They are unpacked in order: nothing is lost if one waits for the one three below.
      fetches[i] = same < i ? fetches[same] : (fetches[i - LANES] ?? Promise.resolve()).then(() => fetch(i));
    }
    return Promise.all(fetches.slice(first));
  }

  return {
    async fetched(i) {
      all ??= startFrom(i);
      await Promise.race([fetches[i], all]);
    },
    settled: async () => void (await Promise.allSettled(fetches)),
  };
}
