import { NymphError } from '../errors.ts';
import { pause, retry, SMALL_OBJECT_RETRY } from '../sources/retry.ts';
import type { Descriptor, Source } from '../sources/source.ts';
import type { Session } from './session.ts';
import { isStatus } from './status.ts';

/** A blob on its way into containerd's content store. */
export interface Ingest extends Pick<Descriptor, 'digest' | 'size'> {
  /** Its name. The names of containerd's own pulls, so that they and we do not fetch the same blob. */
  ref: string;
  origin: Pick<Source, 'read' | 'distrust'>;
  /** Told how many bytes containerd has taken, each time. */
  taken(bytes: number): void;
}

/** `content.proto` */
interface WriteRequest {
  action: 'STAT' | 'WRITE' | 'COMMIT';
  ref?: string;
  total?: number;
  expected?: string;
  offset?: number;
  data?: Uint8Array;
}

interface WriteAnswer {
  offset: number;
}

/** Bytes of one request: far below the 16 MiB that containerd takes, and few round trips. */
const PIECE = 1 << 20;
/** Between two looks whether another client is done with the same blob, ms. */
const LOCKED_PAUSE = 200;
/** How often a blob is fetched that has the wrong digest. */
const ATTEMPTS = 3;

/**
 * Brings a blob into containerd's content store, which compares its digest, unless it is there. What another client has
 * fetched of it before it stopped is kept.
 * @throws NymphError `corrupt` if nobody has bytes of that digest
 */
export async function ingest(session: Session, blob: Ingest): Promise<void> {
  for (let wrong = 0; ; ) {
    const outcome = await write(session, blob);
    if (outcome === 'here') return;
    if (outcome === 'locked') await pause(LOCKED_PAUSE, session.signal);
    else if (++wrong === ATTEMPTS)
      throw new NymphError('corrupt', `what came as blob ${blob.digest} does not have its digest, ${wrong} times`);
  }
}

async function write(session: Session, blob: Ingest): Promise<'here' | 'locked' | 'wrong'> {
  const { ref, digest, size, origin } = blob;
  const streams: AsyncIterable<Uint8Array>[] = [];
  const { connection, circumstances, signal } = session;
  const writing = await connection.converse<WriteRequest, WriteAnswer>('content', 'Write', circumstances);
  try {
    let { offset } = await writing.ask({ action: 'STAT', ref, total: size, expected: digest });
    while (offset < size)
      await retry(SMALL_OBJECT_RETRY, signal, async () => {
        const before = offset;
        try {
          const stream = await origin.read(offset, size - offset, signal);
          streams.push(stream);
          for await (const data of pieces(stream)) {
            ({ offset } = await writing.ask({ action: 'WRITE', offset, data }));
            blob.taken(data.length);
          }
        } catch (error) {
          // A connection that brought much before it was cut is no failed attempt.
          if (offset - before < PIECE || !(error instanceof NymphError) || !error.retryable) throw error;
        }
      });
    await writing.ask({ action: 'COMMIT', total: size, expected: digest, offset });
    return 'here';
  } catch (error) {
    if (isStatus(error, 'already exists')) return 'here';
    if (isStatus(error, 'unavailable') && /\blocked\b/.test((error as Error).message)) return 'locked';
    if (!isStatus(error, 'failed precondition')) throw error;
    for (const stream of streams) origin.distrust?.(stream);
  } finally {
    writing.close();
  }
  await session.call('content', 'Abort', { ref }).catch((error) => {
    if (!isStatus(error, 'not found')) throw error;
  });
  return 'wrong';
}

/** A stream in pieces of {@link PIECE} bytes; before an error, what had come. */
async function* pieces(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let length = 0;
  let failure: { error: unknown } | undefined;
  try {
    for await (const part of stream) {
      parts.push(part);
      length += part.length;
      if (length < PIECE) continue;
      yield Buffer.concat(parts);
      parts = [];
      length = 0;
    }
  } catch (error) {
    failure = { error };
  }
  if (length > 0) yield Buffer.concat(parts);
  if (failure) throw failure.error;
}
