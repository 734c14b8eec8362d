import type { OciDigest } from '../image/image.ts';
import type { Swarm, SwarmObject, SwarmStream } from '../sources/swarm.ts';
import type { Clock } from './clock.ts';

/**
 * Streams of blobs that will be wanted whole in a moment: a swarm needs 100 ms until the first piece, in which the image's
 * tables can be read.
 */
export interface HeadStarts {
  /** Asks whether peers have a blob, and opens its stream if they do. */
  begin(object: SwarmObject): void;
  /** What was begun for a blob, once. */
  take(digest: OciDigest): HeadStart | undefined;
}

export interface HeadStart {
  /** When it began, by the clock. */
  readonly at: number;
  /** Whether peers have it. Never rejects. */
  readonly peers: Promise<boolean | undefined>;
  /** `undefined` where they do not. */
  readonly stream: Promise<SwarmStream | undefined>;
  /** Ends the stream. */
  end(): void;
  /** Ends it for who has made no use of it. */
  drop(): void;
}

/** A blob that nobody takes by then is not wanted, ms. */
const MOST_WAIT = 10_000;
/** Each has pieces on its way. */
const MOST = 4;

export function createHeadStarts(swarm: Swarm, clock: Clock): HeadStarts {
  const begun = new Map<OciDigest, { start: HeadStart; cancel: () => void }>();

  return {
    begin(object) {
      const { digest } = object;
      if (begun.size >= MOST || begun.has(digest)) return;
      const abort = new AbortController();
      const peers = swarm.look(object);
      const stream = peers.then((found) =>
        found === true && !abort.signal.aborted ? swarm.open(object, abort.signal) : undefined,
      );
      const end = () => abort.abort();
      const drop = () => {
        end();
        stream.then((opened) => opened?.file?.close()).catch(() => {});
      };
      const cancel = clock.after(MOST_WAIT, () => {
        begun.delete(digest);
        drop();
      });
      begun.set(digest, { start: { at: clock.now(), peers, stream, end, drop }, cancel });
      // Who takes it hears of that.
      stream.catch(() => {});
    },
    take(digest) {
      const found = begun.get(digest);
      begun.delete(digest);
      found?.cancel();
      return found?.start;
    },
  };
}
