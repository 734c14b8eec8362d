import { decompress } from '../codec/decompress.ts';
import { corrupt } from '../errors.ts';
import { cancelled } from '../fetch/gate.ts';
import type { StreamCodec } from '../image/image.ts';
import type { Source } from '../sources/source.ts';
import { readWhole } from '../sources/whole.ts';
import { unlessAborted } from './joint-fill.ts';

/** A decoder that has come to a place of what it unpacks. */
interface Decoder {
  readonly pieces: AsyncIterator<Uint8Array>;
  readonly abort: AbortController;
  position: number;
  /** Of the piece that was read last. */
  rest: Uint8Array;
}

interface Waiting {
  offset: number;
  begin(): void;
}

/** A decoder that nobody goes on with is given up, ms. */
const KEPT_MS = 5_000;

/**
 * What a packed layer unpacks to, as a source: for the rare bytes that the cache has lost, or could not take. Such a layer
 * can be decoded from its beginning alone, so there is one decoder, reads take turns in the order of their places, and it
 * goes on where it was.
 * @param source of the layer @param size of the layer, bytes
 */
export function unpackedSource(source: Source, size: number, codec: StreamCodec): Source {
  const waiting: Waiting[] = [];
  let kept: Decoder | undefined;
  let idle: NodeJS.Timeout | undefined;
  let busy = false;

  async function turn(offset: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw cancelled();
    if (!busy) {
      busy = true;
      return;
    }
    const mine = Promise.withResolvers<void>();
    const entry = { offset, begin: mine.resolve };
    const leave = () => {
      const at = waiting.indexOf(entry);
      if (at < 0) return;
      waiting.splice(at, 1);
      mine.reject(cancelled());
    };
    waiting.push(entry);
    signal.addEventListener('abort', leave, { once: true });
    await mine.promise.finally(() => signal.removeEventListener('abort', leave));
  }

  function next(): void {
    const position = kept?.position ?? 0;
    const ahead = waiting.filter(({ offset }) => offset >= position);
    const first = (ahead.length > 0 ? ahead : waiting).reduce<Waiting | undefined>(
      (best, entry) => (best === undefined || entry.offset < best.offset ? entry : best),
      undefined,
    );
    if (first === undefined) {
      busy = false;
      return;
    }
    waiting.splice(waiting.indexOf(first), 1);
    first.begin();
  }

  function decoderFor(offset: number): Decoder {
    clearTimeout(idle);
    const before = kept;
    kept = undefined;
    if (before !== undefined && before.position <= offset) return before;
    if (before !== undefined) end(before);
    const abort = new AbortController();
    const pieces = decompress(readWhole(source, size, abort.signal), codec, source.name);
    return { pieces, abort, position: 0, rest: new Uint8Array() };
  }

  function keep(decoder: Decoder): void {
    kept = decoder;
    idle = setTimeout(() => {
      kept = undefined;
      end(decoder);
    }, KEPT_MS).unref();
  }

  async function* range(offset: number, length: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    let decoder: Decoder | undefined;
    try {
      decoder = decoderFor(offset);
      while (decoder.position < offset) await some(decoder, offset - decoder.position, signal);
      const to = offset + length;
      while (decoder.position < to) yield await some(decoder, to - decoder.position, signal);
      keep(decoder);
      decoder = undefined;
    } finally {
      if (decoder !== undefined) end(decoder);
      next();
    }
  }

  return {
    name: source.name,
    async read(offset, length, signal) {
      await turn(offset, signal);
      const pieces = range(offset, length, signal);
      // Also for a reader that does not even begin.
      signal.addEventListener('abort', () => void pieces.return(undefined).catch(() => {}), { once: true });
      try {
        // What cannot be had is told now, and a turn that nobody uses would hold up all others.
        const first = await pieces.next();
        return following(first, pieces);
      } catch (error) {
        await pieces.return(undefined);
        throw error;
      }
    },
  };
}

async function* following(
  first: IteratorResult<Uint8Array>,
  pieces: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    for (let piece = first; !piece.done; piece = await pieces.next()) yield piece.value;
  } finally {
    await pieces.return(undefined);
  }
}

/** The next bytes, at most `length`. */
async function some(decoder: Decoder, length: number, signal: AbortSignal): Promise<Uint8Array> {
  while (decoder.rest.length === 0) {
    const { value, done } = await unlessAborted(decoder.pieces.next(), signal);
    if (done) throw corrupt('packed layer', 'size', decoder.position, 'it unpacks to less than before');
    decoder.rest = value;
  }
  const given = decoder.rest.subarray(0, length);
  decoder.rest = decoder.rest.subarray(given.length);
  decoder.position += given.length;
  return given;
}

function end({ abort, pieces }: Decoder): void {
  abort.abort();
  pieces.return?.().catch(() => {}); // it is told that it was ended
}
