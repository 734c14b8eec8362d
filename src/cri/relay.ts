import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Stream,
} from 'node:http2';
import type { Backend } from './backend.ts';

const { constants } = process.getBuiltinModule('node:http2');

/** What a relayed call lets one see. */
export interface Observer {
  /** A piece of the request's body, before it is passed on. */
  request?(piece: Buffer): void;
  /** The call has ended, by `grpc-status`; `undefined` if it was cut off. Once. */
  ended?(status: string | undefined): void;
}

/** gRPC: the service is not there at the moment; clients try again. */
const UNAVAILABLE = '14';

/**
 * Passes one gRPC call on to the backend as it is: method, metadata, deadline, messages in both directions, status,
 * cancellation. It is done below gRPC, on HTTP/2 streams, so methods and fields that nobody here knows pass too.
 */
export async function relay(
  backend: Backend,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  observer: Observer,
): Promise<void> {
  let ended = false;
  const end = (status: string | undefined) => {
    if (!ended) observer.ended?.(status);
    ended = true;
  };
  // A stream that the client reset says so by its end; who has no listener for the error dies of it.
  stream.on('error', () => {});
  let upstream: ClientHttp2Stream;
  let session: ClientHttp2Session;
  try {
    session = await backend.session();
    if (stream.destroyed) return end(undefined);
    upstream = session.request(plain(headers, { ':authority': 'localhost' }));
  } catch (error) {
    end(UNAVAILABLE);
    return refuse(stream, `containerd cannot be reached: ${(error as NodeJS.ErrnoException).code ?? 'failed'}`);
  }
  upstream.on('error', () => {});

  let trailers: OutgoingHttpHeaders = {};
  upstream.on('response', (answer, flags) => {
    if (stream.destroyed) return;
    if (flags & constants.NGHTTP2_FLAG_END_STREAM) {
      end(answer['grpc-status'] as string | undefined);
      stream.respond(plain(answer), { endStream: true });
      return;
    }
    stream.respond(plain(answer), { waitForTrailers: true });
    upstream.pipe(stream);
  });
  upstream.on('trailers', (answer) => {
    trailers = plain(answer);
    end(answer['grpc-status'] as string | undefined);
  });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));

  upstream.on('close', () => {
    end(undefined);
    if (stream.destroyed || stream.writableEnded) return;
    if (!stream.headersSent && session.destroyed) refuse(stream, 'the connection to containerd was lost');
    else stream.close(upstream.rstCode || constants.NGHTTP2_INTERNAL_ERROR);
  });
  stream.on('close', () => {
    if (!upstream.closed) upstream.close(stream.rstCode || constants.NGHTTP2_CANCEL);
  });

  if (observer.request) stream.on('data', observer.request);
  stream.pipe(upstream);
}

/** Answers a call with an error of our own: printable ASCII without `%`, which stands for itself in gRPC. */
function refuse(stream: ServerHttp2Stream, message: string): void {
  if (stream.destroyed || stream.headersSent) return;
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': UNAVAILABLE,
      'grpc-message': message,
    },
    { endStream: true },
  );
  stream.close();
}

/** Headers without what belongs to one connection. */
function plain(headers: IncomingHttpHeaders, more: OutgoingHttpHeaders = {}): OutgoingHttpHeaders {
  const { host: _host, connection: _connection, ...rest } = headers;
  return { ...Object.fromEntries(Object.entries(rest)), ...more };
}
