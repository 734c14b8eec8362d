import { stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { sendBlob } from '../registry/blob.ts';
import { emptyStats, type Faults, type Stats, type Times, useFault } from '../registry/faults.ts';
import { checkOss, checkV4, type Keys } from './signatures.ts';

export interface StorageOptions {
  /** Without it, a plain HTTP server of files. */
  kind?: 's3' | 'oss';
  bucket?: string;
  region?: string;
  /** Without them, everybody may read. */
  keys?: Keys;
  /** In front of every key. */
  prefix?: string;
  /** Its files are the objects. */
  directory: string;
  /** Speaks TLS with this certificate and key (PEM). */
  tls?: { cert: string; key: string };
  /** Listens on this unix socket instead of a port. */
  socket?: string;
  faults?: StorageFaults;
}

/** What the storage does wrong, or wants otherwise; may be changed while it runs. */
export interface StorageFaults extends Faults {
  /** Its clock is so many ms ahead. */
  clock?: number;
  /** Temporary keys have expired. */
  expired?: boolean;
  /** The bucket must be in the host's name; S3 alone. */
  hostedOnly?: boolean;
  /** Says that the bucket must be asked for at this endpoint, as its XML does: `host[:port]`. */
  moved?: Times & { endpoint: string };
  /** Redirects to this address, with the path. */
  location?: Times & { to: string };
}

export interface TestStorage {
  /** `http://127.0.0.1:9000`, or the socket's path. */
  readonly url: string;
  /** `127.0.0.1:9000` */
  readonly host: string;
  readonly stats: Stats;
  readonly faults: StorageFaults;
  keys: Keys | undefined;
  close(): Promise<void>;
}

/**
 * An object storage that can be told to fail: S3 or OSS, of one bucket, GET alone, with signatures checked; also as an
 * HTTP proxy that is asked for `http://…` addresses. One process, real sockets.
 */
export async function startStorage(options: StorageOptions): Promise<TestStorage> {
  const { kind, bucket = '', region = 'us-east-1', prefix = '', directory, tls, faults = {} } = options;
  const stats = emptyStats();
  const state = { keys: options.keys };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    stats.requests++;
    stats.log.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    const now = Date.now() + (faults.clock ?? 0);
    response.setHeader('date', new Date(now).toUTCString());
    const refuse = (status: number, code: string, more = '') => {
      const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>it is ${code}</Message>${more}</Error>`;
      response.writeHead(status, { 'content-type': 'application/xml' }).end(kind === undefined ? '' : body);
    };

    const target = (request.url ?? '/').replace(/^https?:\/\/[^/]+/, '');
    const path = decodeURIComponent(target.split('?')[0]);
    const hosted = kind !== undefined && String(request.headers.host).startsWith(`${bucket}.`);
    const status = useFault(faults.status);
    if (status) {
      if (status.retryAfter) response.setHeader('retry-after', status.retryAfter);
      return refuse(status.code, 'SlowDown');
    }
    const location = useFault(faults.location);
    if (location) {
      response.writeHead(307, { location: location.to + target }).end();
      return;
    }
    if (kind === 's3' && faults.hostedOnly && !hosted) return refuse(403, 'SecondLevelDomainForbidden');
    const key = kind === undefined || hosted ? path.slice(1) : path.replace(`/${bucket}/`, '');
    if (kind !== undefined && !hosted && !path.startsWith(`/${bucket}/`)) return refuse(404, 'NoSuchBucket');
    const { keys } = state;
    if (keys !== undefined) {
      const refused =
        kind === 's3' ? checkV4(request, target, keys, region, now) : checkOss(request, `/${bucket}/${key}`, keys, now);
      if (refused) stats.unauthorized++;
      if (refused === 'AuthorizationHeaderMalformed') return refuse(400, refused, `<Region>${region}</Region>`);
      if (refused) return refuse(403, refused);
      if (faults.expired)
        return refuse(kind === 's3' ? 400 : 403, kind === 's3' ? 'ExpiredToken' : 'SecurityTokenExpired');
    } else if (request.headers.authorization !== undefined) stats.leaked++;
    const moved = useFault(faults.moved);
    if (moved) return refuse(301, 'PermanentRedirect', `<Endpoint>${moved.endpoint}</Endpoint>`);

    stats.blobs++;
    const name = key.startsWith(prefix) ? key.slice(prefix.length) : '';
    const file = join(directory, name);
    const found = /^[0-9a-zA-Z._-]+$/.test(name) ? await stat(file).catch(() => undefined) : undefined;
    if (!found?.isFile()) return refuse(404, 'NoSuchKey');
    await sendBlob(request, response, { path: file, size: found.size, digest: `sha256:${name}` }, faults, stats);
  };

  const answer = (request: IncomingMessage, response: ServerResponse) => {
    serve(request, response).catch((error: unknown) => {
      // A client that goes away while a body is sent is what many tests do.
      if (!response.destroyed) console.error('test storage:', error);
      response.destroy();
    });
  };
  const server = tls ? createTlsServer(tls, answer) : createServer(answer);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    if (options.socket !== undefined) server.listen(options.socket, resolve);
    else server.listen(0, '127.0.0.1', resolve);
  });
  const host = options.socket === undefined ? `127.0.0.1:${(server.address() as AddressInfo).port}` : 'localhost';
  return {
    url: options.socket ?? `${tls ? 'https' : 'http'}://${host}`,
    host,
    stats,
    faults,
    get keys() {
      return state.keys;
    },
    set keys(keys) {
      state.keys = keys;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
