/**
 * Reads that failed a moment ago. The kernel reads ahead, and when that fails it asks once more for the page that is
 * wanted: it gets the same answer at once, so that a reader waits for one deadline and not for two.
 */
export interface Failures {
  /** The error that a read of one of these frames has had just now. */
  recent(frames: readonly number[]): unknown;
  note(frames: readonly number[], error: unknown): void;
}

const RECENT_MS = 250;

/** Frames are named by their offsets in the stored object. */
export function createFailures(): Failures {
  const errors = new Map<number, unknown>();
  return {
    recent: (frames) => (errors.size === 0 ? undefined : errors.get(frames.find((frame) => errors.has(frame))!)),
    note(frames, error) {
      for (const frame of frames) errors.set(frame, error);
      setTimeout(() => {
        for (const frame of frames) if (errors.get(frame) === error) errors.delete(frame);
      }, RECENT_MS).unref();
    },
  };
}
