/**
 * Finds sequential readers of a blob by offset alone, whoever reads: many threads share one descriptor, and page faults
 * have none. A stream's window grows with what it has read, so a reader that stops has cost at most as much again.
 */

/** Fetch `[from, to)` ahead, and say when a reader comes to `mark`. Uncompressed bytes. */
export interface ReadAhead {
  from: number;
  to: number;
  mark: number;
}

interface Stream {
  /** Where the next read is expected. */
  next: number;
  /** Bytes read in order so far. */
  read: number;
  /** End of what was asked for ahead. */
  ahead: number;
  used: number;
}

const MOST_STREAMS = 32;
/** A reader may skip this much (or step back this far) and still be one stream: kernel readahead is not exactly in order. */
const SLACK = 1 << 20;
/** What the kernel's readahead may leave out between two reads in order. */
const STEP = 256 << 10;
/** No readahead before this much was read in order. */
const PROOF = 1 << 20;

export interface Streams {
  /** A reader was seen at `[offset, offset + length)`. @returns what to fetch ahead for it, if anything. */
  seen(offset: number, length: number): ReadAhead | undefined;
}

/** @param windowMax most bytes ahead of one stream. @param size of the blob, bytes. */
export function createStreams(windowMax: number, size: number): Streams {
  const streams: Stream[] = [];
  let clock = 0;

  function find(offset: number): Stream | undefined {
    for (const stream of streams) {
      // A read inside the window ahead is the same reader: it found the bytes in between ready.
      if (offset >= stream.next - SLACK && offset <= Math.max(stream.next, stream.ahead) + SLACK) return stream;
    }
    return undefined;
  }

  function begin(offset: number, length: number): undefined {
    if (streams.length === MOST_STREAMS) {
      let oldest = 0;
      for (let i = 1; i < streams.length; i++) if (streams[i].used < streams[oldest].used) oldest = i;
      streams.splice(oldest, 1);
    }
    streams.push({ next: offset + length, read: length, ahead: offset + length, used: ++clock });
    return undefined;
  }

  function seen(offset: number, length: number): ReadAhead | undefined {
    const stream = find(offset);
    if (stream === undefined) return begin(offset, length);
    const end = offset + length;
    stream.used = ++clock;
    if (end <= stream.next) return undefined;
    // What lies in the window ahead was read without a fault; a hop beyond it starts from nothing.
    if (end <= stream.ahead) stream.read += end - stream.next;
    else stream.read = offset - stream.next <= STEP ? stream.read + length : length;
    stream.next = end;
    if (stream.read < PROOF) return undefined;
    const window = Math.min(stream.read, windowMax);
    const from = Math.max(stream.ahead, end);
    const to = Math.min(end + window, size);
    // Ask in portions of half a window: fewer, larger requests.
    if (to - from < window / 2 && to < size) return undefined;
    if (to <= from) return undefined;
    stream.ahead = to;
    return { from, to, mark: from + Math.floor((to - from) / 2) };
  }

  return { seen };
}
