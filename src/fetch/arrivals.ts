/** Where the pieces of a stream are that have come, and how far it is to those that have not. All in stored bytes. */
export interface Arrivals {
  add(offset: number, length: number): void;
  /** Bytes that are likely to come before the end of a range has; `undefined` if its end came already. */
  before(end: number): number | undefined;
  /** In all. */
  readonly received: number;
}

export function createArrivals(): Arrivals {
  /** All before it is here; behind it, by offset, what came out of turn. */
  let front = 0;
  const beyond = new Map<number, number>();
  let received = 0;
  return {
    add(offset, length) {
      received += length;
      beyond.set(offset, length);
      for (let next = beyond.get(front); next !== undefined; next = beyond.get(front)) {
        beyond.delete(front);
        front += next;
      }
    },
    before(end) {
      let missing = end - front;
      if (missing <= 0) return undefined;
      for (const [offset, length] of beyond) {
        if (offset < end && end <= offset + length) return undefined;
        if (offset < end) missing -= length;
      }
      return missing;
    },
    get received() {
      return received;
    },
  };
}
