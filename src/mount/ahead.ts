import type { CachedBlob } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { Range } from '../fetch/fetcher.ts';
import { placeInFile } from '../image/image.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';

/** What readahead does with files, which it knows by blob and first byte: it sends for them, and reads in them. */
export interface Ahead {
  /** Sends for the first `size` bytes of files, as urgently as a fault; resolves when they are here. */
  fetch(served: ServedBlob, files: readonly FileStart[]): Promise<void>;
  /** The same, by itself. */
  send(served: ServedBlob, file: FileStart): void;
  /** Bytes of a file, fetched first where they are not here. @param offset in the file */
  read(served: ServedBlob, start: number, offset: number, length: number): Promise<Buffer>;
  /** Lets work go on by itself: what fails is left to the real reads. @param offset for the log */
  leave(served: ServedBlob, offset: number, work: Promise<void>): void;
}

/** Where a file begins in its blob, and how much of it is wanted, bytes. */
export interface FileStart {
  offset: number;
  size: number;
}

/** @param sent is told of what is sent for */
export function createAhead(
  blobs: ServedBlobs,
  sent: (blob: CachedBlob, range: Range) => void,
  log: FetchContext['log'],
): Ahead {
  const never = new AbortController().signal;

  function rangeOf({ cached }: ServedBlob, { offset, size }: FileStart): Range {
    return { offset, length: placeInFile(cached.chunks, offset, Math.max(0, size - 1)) + 1 - offset };
  }

  const ahead: Ahead = {
    fetch(served, files) {
      const ranges = files.map((file) => rangeOf(served, file));
      for (const range of ranges) sent(served.cached, range);
      return served.fetcher.gather(ranges, never);
    },
    send: (served, file) => ahead.leave(served, file.offset, ahead.fetch(served, [file])),
    async read(served, start, offset, length) {
      const place = placeInFile(served.cached.chunks, start, offset);
      return Buffer.concat(await blobs.read(served, place, length, never));
    },
    leave({ cached }, offset, work) {
      work.catch((error) => {
        const level = error instanceof NymphError ? 'debug' : 'error';
        log(level, 'start-up readahead gave up', { blob: cached.key, offset, error: String(error) });
      });
    },
  };
  return ahead;
}
