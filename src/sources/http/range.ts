import { NymphError } from '../../errors.ts';
import type { PlaceErrors } from './errors.ts';
import { contentLength, type HttpResponse } from './request.ts';

/** A server that ignores `Range` is borne with as long as no more than this has to be read and dropped, bytes. */
export const MAX_SKIP = 8 * 1024 * 1024;

export interface RangeRequest {
  offset: number;
  length: number;
  /** For errors: `blob sha256:…`. */
  what: string;
  /** Who answers, for errors. */
  host: string;
  errors: PlaceErrors;
}

export function rangeHeader({ offset, length }: Pick<RangeRequest, 'offset' | 'length'>): string {
  return `bytes=${offset}-${offset + length - 1}`;
}

/**
 * Checks the headers of an answer to a range request (RFC 9110 §14, §15.3.7).
 * @returns bytes to drop before the range starts: more than 0 if the server sends the object from its start
 * @throws NymphError
 */
export async function checkRange(response: HttpResponse, request: RangeRequest): Promise<number> {
  const refused = await refusal(response, request);
  if (!refused) return response.status === 206 ? 0 : request.offset;
  await response.body.return?.();
  throw refused;
}

async function refusal(response: HttpResponse, request: RangeRequest): Promise<NymphError | undefined> {
  const { offset, length, what, host, errors } = request;
  const { status } = response;
  const broken = (why: string) =>
    new NymphError('source', `${host} sent a wrong range of ${what}: ${why}`, { retryable: true });
  const short = (size: number) =>
    new NymphError(
      'source',
      `${what} at ${host} has ${size} bytes: bytes ${offset}–${offset + length - 1} are not in it`,
    );
  if (status === 416) {
    const total = /^bytes \*\/(\d+)$/.exec(response.header('content-range') ?? '')?.[1];
    if (total !== undefined && Number(total) < offset + length) return short(Number(total));
  }
  if (status !== 206 && status !== 200) return errors.status(response, what, host);
  const encoding = response.header('content-encoding')?.trim().toLowerCase();
  if (encoding && encoding !== 'identity') return broken(`its bytes are encoded (${encoding.slice(0, 40)})`);
  const bodySize = contentLength(response);
  if (status === 200) {
    if (bodySize !== undefined && bodySize < offset + length) return short(bodySize);
    return offset > MAX_SKIP ? noRanges(request) : undefined;
  }
  const range = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/.exec(response.header('content-range')?.trim() ?? '');
  if (!range) return broken('it does not say which (Content-Range)');
  const [first, last] = [Number(range[1]), Number(range[2])];
  const total = range[3] === '*' ? undefined : Number(range[3]);
  if (total !== undefined && total < offset + length) return short(total);
  if (first !== offset || last !== offset + length - 1)
    return broken(`bytes ${first}–${last} instead of ${offset}–${offset + length - 1}`);
  if (bodySize !== undefined && bodySize !== length) return broken(`${bodySize} bytes instead of ${length}`);
  return undefined;
}

/** The error for a server that answers range requests with the whole object. */
export function noRanges({ what, host }: Pick<RangeRequest, 'what' | 'host'>): NymphError {
  return new NymphError('unsupported', `${host} cannot send a range of ${what}: it answers with the whole object`, {
    hint: 'Lazy reading needs range requests: use a registry or mirror that supports them, or enable them in the proxy before it.',
  });
}

/** What happens to the bytes of a range. */
export interface RangeEvents {
  received(bytes: number): void;
  /** The stream broke, or its sender lied about its length. */
  failed(error: NymphError): void;
}

/**
 * Bytes `[skip, skip + length)` of a body: exactly these, or an error.
 * @param skip bytes to drop first; @param cancellation the error to throw if it was the caller who ended the body
 */
export function exactly(
  response: HttpResponse,
  skip: number,
  request: RangeRequest,
  events: RangeEvents,
  cancellation: () => NymphError | undefined,
): AsyncIterableIterator<Uint8Array> {
  const { body } = response;
  const wholeObject = response.status === 200;
  let toSkip = skip;
  let left = request.length;
  let ended = false;

  const fail = (error: unknown): never => {
    ended = true;
    const mine = cancellation();
    if (mine) throw mine;
    const known = request.errors.transport(error, request.what, request.host);
    events.failed(known);
    throw known;
  };
  const lied = (why: string) =>
    new NymphError('source', `${request.host} sent ${why} of ${request.what}`, { retryable: true });

  const finish = async () => {
    ended = true;
    if (wholeObject) {
      // The rest of the object is not wanted; its connection goes with it.
      await body.return?.();
      return;
    }
    const extra = await body.next().catch(fail);
    if (extra.done) return;
    await body.return?.();
    fail(lied('too many bytes'));
  };

  const iterator: AsyncIterableIterator<Uint8Array> = {
    [Symbol.asyncIterator]: () => iterator,
    async next() {
      while (!ended) {
        if (left === 0) {
          await finish();
          break;
        }
        const result = await body.next().catch(fail);
        if (result.done) return fail(lied(`only ${request.length - left} of ${request.length} bytes`));
        let chunk = result.value;
        if (toSkip > 0) {
          const dropped = Math.min(toSkip, chunk.length);
          toSkip -= dropped;
          chunk = chunk.subarray(dropped);
        }
        if (chunk.length === 0) continue;
        if (chunk.length > left) {
          if (!wholeObject) {
            await body.return?.();
            return fail(lied('too many bytes'));
          }
          chunk = chunk.subarray(0, left);
        }
        left -= chunk.length;
        events.received(chunk.length);
        return { done: false, value: chunk };
      }
      return { done: true, value: undefined };
    },
    async return() {
      ended = true;
      await body.return?.();
      return { done: true, value: undefined };
    },
  };
  return iterator;
}
