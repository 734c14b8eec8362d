import { setTimeout as sleep } from 'node:timers/promises';
import { NymphError } from '../../errors.ts';
import { discard, type HttpResponse } from '../http/request.ts';
import { cancelled } from '../retry.ts';
import type { BlobToPut } from '../target.ts';
import { REGISTRY_ERRORS } from './errors.ts';
import type { Question } from './exchange.ts';

/** Asks the registry to change something in the repository that is pushed to. */
export type AskToPush = (
  question: Omit<Question, 'repository' | 'access' | 'headers'> & Partial<Pick<Question, 'headers'>>,
  signal: AbortSignal,
) => Promise<{ response: HttpResponse; host: string; base: URL }>;

/** An upload that the registry has opened. */
interface Session {
  /** Where to go on; may hold secrets in its query. */
  location: URL;
  /** Bytes that the registry has. */
  received: number;
}

/** In a row, without anything new having arrived. */
const ATTEMPTS = 5;
const PAUSE = 200;
const LONGEST_PAUSE = 10_000;
/** Bytes of one request, where a whole blob was too much for it. */
const PIECE = 16 << 20;

/**
 * Sends a blob: in one request, as most clients do it, because all registries take that. After a cut the registry is asked
 * how much has arrived; what it has is not sent again.
 */
export async function uploadBlob(push: AskToPush, blob: BlobToPut, signal: AbortSignal): Promise<'mounted' | 'sent'> {
  const what = `blob ${blob.digest}`;
  let session: Session | undefined;
  let piece = Number.POSITIVE_INFINITY;
  let best = 0;
  for (let failures = 0; ; ) {
    try {
      if (session) session = await received(push, session, what, signal);
      if (!session) {
        const opened = await open(push, blob, what, signal);
        if (opened === 'mounted') return 'mounted';
        session = opened;
      }
      if (session.received > 0 || blob.size > piece)
        while (session.received < blob.size) session = await append(push, session, blob, piece, what, signal);
      await finish(push, session, blob, what, signal);
      return 'sent';
    } catch (error) {
      if (!(error instanceof NymphError) || error.code === 'cancelled') throw error;
      // A registry that has been started anew may have forgotten the upload: it is asked, and another one opened.
      const forgotten = error.code === 'not-found' && session !== undefined;
      if (tooLarge.has(error) && piece > PIECE) piece = PIECE;
      else if (!error.retryable && !forgotten) throw error;
      const arrived = session?.received ?? 0;
      failures = arrived > best ? 1 : failures + 1;
      best = Math.max(best, arrived);
      if (failures >= ATTEMPTS) throw error;
      const pause = Math.min(LONGEST_PAUSE, PAUSE * 2 ** failures) * (0.5 + Math.random() / 2);
      await sleep(Math.max(error.retryAfter ?? 0, pause), undefined, { signal }).catch(() => {
        throw cancelled(what);
      });
    }
  }
}

/** Asks for an upload, or for the blob of another repository of the registry. */
async function open(
  push: AskToPush,
  { digest, from }: BlobToPut,
  what: string,
  signal: AbortSignal,
): Promise<Session | 'mounted'> {
  const query = from ? `?mount=${encodeURIComponent(digest)}&from=${encodeURIComponent(from)}` : '';
  const question = { method: 'POST', path: `blobs/uploads/${query}`, headers: { 'content-length': '0' } } as const;
  const answer = await push({ ...question, what: `room for ${what}` }, signal);
  if (answer.response.status === 201) {
    await discard(answer.response);
    return 'mounted';
  }
  return { location: await next(answer, 202, `room for ${what}`), received: 0 };
}

/** What has arrived of an upload that was cut; undefined if the registry has dropped it. */
async function received(
  push: AskToPush,
  session: Session,
  what: string,
  signal: AbortSignal,
): Promise<Session | undefined> {
  const answer = await push({ path: session.location, what: `the state of ${what}` }, signal);
  const { response } = answer;
  if (response.status !== 204 && response.status !== 202) {
    await discard(response);
    return undefined;
  }
  // The last byte that is there, from 0 on: nothing and one byte look the same.
  const last = Number(/^(?:bytes=)?0-(\d{1,15})$/.exec(response.header('range') ?? '')?.[1] ?? 0);
  const location = response.header('location') ? await next(answer, response.status, what) : session.location;
  return { location, received: last === 0 ? 0 : last + 1 };
}

/** Sends the next bytes without an end to the upload. */
async function append(
  push: AskToPush,
  session: Session,
  blob: BlobToPut,
  most: number,
  what: string,
  signal: AbortSignal,
): Promise<Session> {
  const start = session.received;
  const length = Math.min(most, blob.size - start);
  const headers = {
    'content-type': 'application/octet-stream',
    'content-length': String(length),
    'content-range': `${start}-${start + length - 1}`,
  };
  const body = contentFrom(blob, start, length, signal);
  const answer = await push(
    { method: 'PATCH', path: session.location, headers, body, what: `the receipt of ${what}` },
    signal,
  );
  return { location: await next(answer, 202, `the receipt of ${what}`), received: start + length };
}

/** Ends the upload; sends all of the blob with it, if nothing was sent yet. */
async function finish(
  push: AskToPush,
  session: Session,
  blob: BlobToPut,
  what: string,
  signal: AbortSignal,
): Promise<void> {
  const length = blob.size - session.received;
  const path = new URL(session.location);
  path.search += `${path.search === '' ? '?' : '&'}digest=${encodeURIComponent(blob.digest)}`;
  const headers = { 'content-type': 'application/octet-stream', 'content-length': String(length) };
  const body = length > 0 ? contentFrom(blob, session.received, length, signal) : undefined;
  const name = `the receipt of ${what}`;
  const { response, host } = await push({ method: 'PUT', path, headers, body, what: name }, signal);
  if (response.status === 413) throw tooLargeError(name, host);
  if (response.status !== 201) throw await REGISTRY_ERRORS.status(response, name, host);
  await discard(response);
  blob.progress?.(blob.size);
}

/** A body that can be sent once more, if the registry wants a login first. */
function contentFrom(
  blob: BlobToPut,
  start: number,
  length: number,
  signal: AbortSignal,
): () => AsyncIterable<Uint8Array> {
  return async function* counted() {
    let left = length;
    for await (const bytes of await blob.read(start, signal)) {
      const wanted = bytes.subarray(0, left);
      left -= wanted.length;
      yield wanted;
      blob.progress?.(start + length - left);
      if (left === 0) return;
    }
  };
}

/** Where an upload goes on, of an answer with the status that was expected. */
async function next(
  { response, host, base }: { response: HttpResponse; host: string; base: URL },
  expected: number,
  what: string,
): Promise<URL> {
  if (response.status === 413) throw tooLargeError(what, host);
  if (response.status !== expected) throw await REGISTRY_ERRORS.status(response, what, host);
  await discard(response);
  const location = response.header('location') ?? '';
  const url = URL.canParse(location, base.href) ? new URL(location, base.href) : undefined;
  if (location === '' || (url?.protocol !== 'https:' && url?.protocol !== 'http:'))
    throw new NymphError('source', `${host} does not say where to send ${what}`);
  return url;
}

/** Errors that say that a request was larger than a proxy before the registry allows. */
const tooLarge = new WeakSet<NymphError>();

function tooLargeError(what: string, host: string): NymphError {
  const error = new NymphError('source', `${host} did not give ${what}: the request was too large for it`, {
    hint: 'Raise the limit of the proxy before the registry (nginx: client_max_body_size).',
  });
  tooLarge.add(error);
  return error;
}
