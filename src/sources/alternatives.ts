import { NymphError } from '../errors.ts';
import type { Source } from './source.ts';

/**
 * The places that have one object: images from several registries share a blob, and none of them may lose it with another's. Reads
 * from the place that worked last; where that fails, from the next.
 * @param what the object, for errors: `blob …`
 * @param places who shares it adds its own, and takes it away again; the first is asked first
 */
export function createAlternatives(what: string, places: Source[]): Source {
  const senders = new WeakMap<AsyncIterable<Uint8Array>, { place: Source; stream: AsyncIterable<Uint8Array> }>();

  /** Asked last from now on. */
  function demote(place: Source): void {
    const at = places.indexOf(place);
    if (at >= 0) places.push(...places.splice(at, 1));
  }

  async function* watched(stream: AsyncIterable<Uint8Array>, place: Source): AsyncGenerator<Uint8Array> {
    try {
      yield* stream;
    } catch (error) {
      demote(place);
      throw error;
    }
  }

  return {
    get name() {
      return places[0]?.name ?? 'none';
    },
    get amplify() {
      return places[0]?.amplify;
    },
    async read(offset, length, signal) {
      let failure: unknown;
      for (const place of [...places]) {
        try {
          const stream = await place.read(offset, length, signal);
          const given = watched(stream, place);
          senders.set(given, { place, stream });
          return given;
        } catch (error) {
          if (signal.aborted) throw error;
          demote(place);
          // What may succeed later says more than what will not.
          if (failure === undefined || (error instanceof NymphError && error.retryable)) failure = error;
        }
      }
      throw failure ?? new NymphError('cancelled', `${what} is being closed`);
    },
    async location(signal, refusals) {
      let failure: unknown;
      // Two tries each: the second one with another login.
      const from = refusals >> 1;
      for (const [i, place] of places.slice(from).entries()) {
        try {
          const found = await place.location?.(signal, i === 0 ? refusals & 1 : 0);
          if (found !== undefined) return found;
        } catch (error) {
          if (signal.aborted) throw error;
          failure ??= error;
        }
      }
      if (failure !== undefined) throw failure;
      return undefined;
    },
    distrust(given) {
      const sender = senders.get(given);
      if (sender === undefined) return;
      sender.place.distrust?.(sender.stream);
      demote(sender.place);
    },
  };
}
