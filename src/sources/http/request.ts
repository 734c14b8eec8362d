import type { Dispatcher } from 'undici';

/** Milliseconds. */
export interface Timeouts {
  /** For a connection to be made, TLS included. */
  connect: number;
  /** From a request to the headers of its answer. */
  header: number;
  /** Longest pause between two pieces of an answer's body. */
  body: number;
}

export const DEFAULT_TIMEOUTS: Timeouts = { connect: 10_000, header: 20_000, body: 20_000 };

export type HttpMethod = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';

export interface HttpRequest {
  method: HttpMethod;
  url: URL;
  headers: Record<string, string | string[]>;
  /** A stream wants its `content-length` among the headers. */
  body?: string | Uint8Array | AsyncIterable<Uint8Array>;
}

export interface HttpResponse {
  readonly status: number;
  /** The first value where a header comes more than once; all of them in `all`. Names in lower case. */
  header(name: string): string | undefined;
  all(name: string): string[];
  names(): string[];
  /** What this is the answer to. */
  readonly request: HttpRequest;
  /** To be read once: to its end, or until `return`, which frees the connection by closing it. */
  readonly body: AsyncIterableIterator<Uint8Array>;
}

/** A reader that is this far behind stops the socket. */
const HIGH_WATER = 256 * 1024;

/**
 * Sends one request; resolves when the headers are here. Redirects, errors and encodings are the caller's matter.
 *
 * An own handler on undici's `dispatch` instead of its `request`: half the CPU of Node's streams, and no more modules.
 * @throws what undici or the socket throws, or `signal.reason`
 */
export function sendRequest(
  dispatcher: Dispatcher,
  request: HttpRequest,
  timeouts: Timeouts,
  signal: AbortSignal,
): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const body = createBody();
    const onAbort = () => {
      reject(signal.reason);
      body.fail(signal.reason);
      body.clear();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const done = () => signal.removeEventListener('abort', onAbort);
    dispatcher.dispatch(
      {
        origin: request.url.origin,
        path: request.url.pathname + request.url.search,
        method: request.method,
        headers: request.headers,
        // undici takes iterables, though its types do not say so.
        body: request.body as string | Uint8Array | undefined,
        headersTimeout: timeouts.header,
        bodyTimeout: timeouts.body,
      },
      {
        onRequestStart: (controller) => body.attach(controller),
        onResponseStart(_controller, status, headers) {
          if (status < 200) return;
          resolve({
            status,
            header: (name) => first(headers[name]),
            all: (name) => list(headers[name]),
            names: () => Object.keys(headers),
            request,
            body: body.iterator,
          });
        },
        onResponseData: (_controller, chunk) => body.push(chunk),
        onResponseEnd() {
          done();
          body.end();
        },
        onResponseError(_controller, error) {
          done();
          reject(error);
          body.fail(error);
        },
      },
    );
  });
}

/** Reads and drops what is left of a short body, so that its connection can be used again; closes it otherwise. */
export async function discard(response: HttpResponse, limit: number = 64 * 1024): Promise<void> {
  try {
    let seen = 0;
    for await (const chunk of response.body) {
      seen += chunk.length;
      if (seen > limit) return;
    }
  } catch {
    // The answer is not wanted any more, and its connection is gone already.
  }
}

/** At most `limit` bytes of a body; the rest is not read. */
export async function readUpTo(response: HttpResponse, limit: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= limit) break;
  }
  return Buffer.concat(chunks).subarray(0, limit);
}

/** The size of the body, bytes, where the headers say it. */
export function contentLength(response: HttpResponse): number | undefined {
  const text = response.header('content-length');
  return text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : undefined;
}

interface Body {
  readonly iterator: AsyncIterableIterator<Uint8Array>;
  attach(controller: Dispatcher.DispatchController): void;
  push(chunk: Uint8Array): void;
  end(): void;
  /** What came before the failure can still be read. */
  fail(error: unknown): void;
  clear(): void;
}

/** A queue between a socket that pushes and a reader that pulls, one reader only. */
function createBody(): Body {
  const queue: Uint8Array[] = [];
  let queued = 0;
  let finished = false;
  let failure: { error: unknown } | undefined;
  let controller: Dispatcher.DispatchController | undefined;
  let waiting: { resolve(result: IteratorResult<Uint8Array>): void; reject(error: unknown): void } | undefined;

  const stop = (error: unknown) =>
    controller?.abort(error instanceof Error ? error : new Error('the body is not wanted'));

  const iterator: AsyncIterableIterator<Uint8Array> = {
    [Symbol.asyncIterator]: () => iterator,
    async next() {
      const chunk = queue.shift();
      if (chunk) {
        queued -= chunk.length;
        if (controller?.paused && queued < HIGH_WATER / 2) controller.resume();
        return { done: false, value: chunk };
      }
      if (failure) throw failure.error;
      if (finished) return { done: true, value: undefined };
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject };
      });
    },
    async return() {
      if (!finished && !failure) {
        finished = true;
        queue.length = 0;
        stop(undefined);
      }
      return { done: true, value: undefined };
    },
  };

  return {
    iterator,
    attach(given) {
      controller = given;
      if (failure) stop(failure.error);
    },
    push(chunk) {
      if (finished || failure) return;
      if (waiting) {
        const reader = waiting;
        waiting = undefined;
        return reader.resolve({ done: false, value: chunk });
      }
      queue.push(chunk);
      queued += chunk.length;
      if (queued >= HIGH_WATER) controller?.pause();
    },
    end() {
      finished = true;
      waiting?.resolve({ done: true, value: undefined });
      waiting = undefined;
    },
    fail(error) {
      if (finished || failure) return;
      failure = { error };
      waiting?.reject(error);
      waiting = undefined;
      stop(error);
    },
    clear() {
      queue.length = 0;
    },
  };
}

function first(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function list(value: string | string[] | undefined): string[] {
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}
