import { NymphError } from '../../errors.ts';
import { parseRetryAfter } from '../http/errors.ts';
import { contentLength, discard, type HttpResponse } from '../http/request.ts';
import { createTransport } from '../http/transport.ts';
import type { SwarmPiece, SwarmStream } from '../swarm.ts';
import { deadline } from './deadline.ts';
import type { Download } from './messages.ts';
import { type Judgement, verdictOfOrigin } from './verdict.ts';
import type { Way } from './way.ts';

const CONNECT_TIMEOUT = 2_000;
/** The first byte comes when the first piece is whole, and each other when it is its turn, ms. */
const START_TIMEOUT = 20_000;
const BODY_TIMEOUT = 60_000;
/** Bytes that are handed on together. */
const PIECE = 1 << 20;

/**
 * By dfdaemon's HTTP proxy, as a mirror of the registry, for clusters that allow no more: the bytes come in order, and
 * nothing says who had them, or whether anybody has.
 * @param address `http://host:port`
 */
export function byProxy(address: URL, userAgent: string): Way {
  const timeouts = { connect: CONNECT_TIMEOUT, header: START_TIMEOUT, body: BODY_TIMEOUT };
  // It is the proxy; no other one lies before it.
  const transport = createTransport(timeouts, userAgent, () => undefined);

  async function download(request: Download, what: string, signal: AbortSignal): Promise<SwarmStream> {
    const url = new URL(request.url);
    const timer = deadline(signal, `dfdaemon's proxy sent nothing of ${what}`);
    let response: HttpResponse;
    try {
      const ask = {
        method: 'GET' as const,
        url: new URL(url.pathname + url.search, address),
        headers: headersOf(request, url),
      };
      response = await timer.within(START_TIMEOUT, transport.send(ask, {}, timer.signal));
      const size = contentLength(response);
      if (response.status !== 200) throw await refusal(response, what);
      if (size === undefined) throw new NymphError('source', `dfdaemon's proxy does not say how long ${what} is`);
      return { size, pieces: piecesOf(response, size, what, timer.end) };
    } catch (error) {
      timer.end();
      throw error;
    }
  }

  return {
    there: () => true,
    look: async () => {},
    stat: async () => undefined,
    download,
    judge: judgeProxy,
    close: () => void transport.close(),
  };
}

/** What its proxy is told in headers. They go on to the registry, which passes over them. */
function headersOf(request: Download, url: URL): Record<string, string> {
  const { tag, application, priority, pieceLength, filteredQueryParams, enableTaskIdBasedBlobDigest } = request;
  return {
    ...request.requestHeader,
    'x-dragonfly-registry': url.origin,
    'x-dragonfly-use-p2p': 'true',
    'x-dragonfly-priority': String(priority),
    'x-dragonfly-filtered-query-params': filteredQueryParams.join(','),
    'x-dragonfly-enable-task-id-based-blob-digest': String(enableTaskIdBasedBlobDigest),
    ...(tag === undefined ? {} : { 'x-dragonfly-tag': tag }),
    ...(application === undefined ? {} : { 'x-dragonfly-application': application }),
    ...(pieceLength === undefined ? {} : { 'x-dragonfly-piece-length': `${pieceLength}b` }),
  };
}

async function* piecesOf(
  response: HttpResponse,
  size: number,
  what: string,
  end: () => void,
): AsyncGenerator<SwarmPiece, void> {
  let parts: Uint8Array[] = [];
  let held = 0;
  let offset = 0;
  const piece = (): SwarmPiece => {
    const bytes = Buffer.concat(parts, held);
    offset += held;
    parts = [];
    held = 0;
    return { offset: offset - bytes.length, length: bytes.length, bytes, from: 'unknown' };
  };
  try {
    for await (const part of response.body) {
      parts.push(part);
      held += part.length;
      if (offset + held > size) throw new NymphError('source', `dfdaemon's proxy sent more of ${what} than it has`);
      if (held >= PIECE) yield piece();
    }
    if (held > 0) yield piece();
    if (offset !== size)
      throw new NymphError('source', `dfdaemon's proxy sent ${offset} of ${size} bytes of ${what}`, {
        retryable: true,
      });
  } finally {
    end();
    await response.body.return?.();
  }
}

/** An answer that is none: whose fault it is stands in a header. */
async function refusal(response: HttpResponse, what: string): Promise<ProxyRefusal> {
  const { status } = response;
  const by = response.header('x-dragonfly-error-type');
  const retryAfter = parseRetryAfter(response.header('retry-after'));
  await discard(response);
  const who = by === 'backend' ? 'the origin' : "dfdaemon's proxy";
  return { by, status, message: `${who} did not give ${what}: status ${status}`, retryAfter };
}

interface ProxyRefusal {
  by: string | undefined;
  status: number;
  message: string;
  retryAfter: number | undefined;
}

function judgeProxy(what: string, failure: unknown): Judgement {
  if (failure instanceof NymphError) return { verdict: failure.retryable ? 'retry' : 'elsewhere', error: failure };
  if (!isRefusal(failure)) {
    const message = `${what} cannot be had from dfdaemon's proxy: ${(failure as Error).message}`;
    return { verdict: 'give up', error: new NymphError('source', message, { retryable: true, cause: failure }) };
  }
  const { by, status, message, retryAfter } = failure;
  // What is no answer of its own comes from a server that is none.
  const verdict = by === 'backend' ? verdictOfOrigin(status) : by === 'dfdaemon' ? 'retry' : 'give up';
  const code = verdict === 'login' ? 'denied' : 'source';
  return { verdict, error: new NymphError(code, message, { retryable: verdict === 'retry', retryAfter }) };
}

function isRefusal(failure: unknown): failure is ProxyRefusal {
  return typeof failure === 'object' && failure !== null && 'by' in failure;
}
