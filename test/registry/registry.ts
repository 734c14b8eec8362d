import { createHmac, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { challenge, createTokenDesk } from './auth.ts';
import { sendBlob } from './blob.ts';
import { emptyStats, type Faults, type Stats, useFault } from './faults.ts';
import { createReceiver } from './push.ts';
import { openStore } from './store.ts';

export interface RegistryOptions {
  /** OCI layouts by the repository that they are served as. */
  layouts: Record<string, string>;
  faults?: Faults;
  /** 0, the default, takes any free port. */
  port?: number;
  /** `127.0.0.1` by default. */
  address?: string;
  /** Speaks TLS with this certificate and key (PEM). */
  tls?: { cert: string; key: string; ca?: string };
}

export interface TestRegistry {
  /** `http://127.0.0.1:5000` */
  readonly url: string;
  /** `127.0.0.1:5000`: the first part of references. */
  readonly host: string;
  readonly stats: Stats;
  /** May be changed at any time. */
  readonly faults: Faults;
  /** Makes every token that was given worthless. */
  revokeTokens(): void;
  close(): Promise<void>;
}

/**
 * A registry of the OCI distribution specification 1.1, pull and push, over OCI layouts, that can be told to fail
 * in many ways. One process, real sockets.
 */
export async function startRegistry(options: RegistryOptions): Promise<TestRegistry> {
  const { layouts, faults = {}, port = 0, address = '127.0.0.1', tls } = options;
  const store = openStore(layouts);
  const stats = emptyStats();
  const desk = createTokenDesk();
  const receiver = createReceiver(layouts, faults, stats, sendError);
  const secret = randomBytes(16);
  const uses = new Map<string, number>();
  let url = '';
  let storageUrl = '';

  const note = (request: IncomingMessage) => {
    stats.log.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    if (stats.log.length > 1000) stats.log.shift();
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    stats.requests++;
    note(request);
    const { pathname, searchParams } = new URL(request.url ?? '/', url);
    if (faults.latency) await sleep(faults.latency, undefined, { ref: false });
    if (pathname === '/token' && faults.auth?.kind === 'token') {
      stats.tokens++;
      if (failed(response, 'token')) return;
      return desk.serve(request, response, new URL(request.url ?? '/', url), faults.auth);
    }
    if (pathname === '/v2/' || pathname === '/v2') {
      response.writeHead(200, { 'docker-distribution-api-version': 'registry/2.0' }).end('{}');
      return;
    }
    const match = /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/([^/]+)$/.exec(pathname);
    const upload = /^\/v2\/(.+)\/blobs\/uploads\/[^/]*$/.exec(pathname);
    const reads = request.method === 'GET' || request.method === 'HEAD';
    const name = (upload ?? match)?.[1] ?? '';
    const access = upload || !reads ? 'pull,push' : 'pull';
    if (faults.auth && !desk.allows(request, faults.auth, name, access)) {
      stats.unauthorized++;
      if (faults.auth.forbids && request.headers.authorization) return sendError(response, 403, 'DENIED');
      response.setHeader('www-authenticate', challenge(faults.auth, url, name, access));
      return sendError(response, 401, 'UNAUTHORIZED');
    }
    if (await receiver.serve(request, response, new URL(request.url ?? '/', url))) return;
    if (!match || !reads) return sendError(response, 404, 'UNSUPPORTED');
    const [, , kind, id] = match;
    if (kind === 'manifests') return serveManifest(request, response, name, id);
    if (kind === 'blobs') return serveBlob(request, response, name, id);
    if (kind === 'referrers') {
      if (faults.referrers === 'absent') return sendError(response, 404, 'UNSUPPORTED');
      const mediaType = 'application/vnd.oci.image.index.v1+json';
      return sendJson(response, { schemaVersion: 2, mediaType, manifests: await receiver.referrers(name, id) });
    }
    const tags = await store.tags(name);
    if (!tags) return sendError(response, 404, 'NAME_UNKNOWN');
    return sendJson(response, { name, tags: tags.slice(0, Number(searchParams.get('n') ?? tags.length)) });
  };

  const serveManifest = async (request: IncomingMessage, response: ServerResponse, name: string, id: string) => {
    stats.manifests++;
    if (failed(response, 'manifest')) return;
    const manifest = await store.manifest(name, id);
    if (!manifest) return sendError(response, 404, 'MANIFEST_UNKNOWN');
    response.writeHead(200, {
      'content-type': manifest.mediaType,
      'content-length': manifest.bytes.length,
      'docker-content-digest': manifest.digest,
    });
    response.end(request.method === 'HEAD' ? undefined : manifest.bytes);
  };

  const serveBlob = async (request: IncomingMessage, response: ServerResponse, name: string, digest: string) => {
    stats.blobs++;
    if (failed(response, 'blob')) return;
    const blob = await store.blob(name, digest);
    if (!blob) return sendError(response, 404, 'BLOB_UNKNOWN');
    if (!faults.redirect) return sendBlob(request, response, { ...blob, digest }, faults, stats);
    const nonce = randomBytes(8).toString('hex');
    const location = `${storageUrl}/${name}/${digest}?nonce=${nonce}&signature=${sign(secret, nonce)}`;
    response.writeHead(faults.redirect.status ?? 307, { location }).end();
  };

  const serveStorage = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    stats.storage++;
    note(request);
    const { pathname, searchParams } = new URL(request.url ?? '/', storageUrl);
    const nonce = searchParams.get('nonce') ?? '';
    const used = (uses.get(nonce) ?? 0) + 1;
    uses.set(nonce, used);
    if (request.headers.authorization !== undefined) stats.leaked++;
    const wrong = request.headers.authorization !== undefined || searchParams.get('signature') !== sign(secret, nonce);
    if (wrong || used > (faults.redirect?.uses ?? Number.POSITIVE_INFINITY)) {
      response.writeHead(wrong ? 400 : 403, { 'content-type': 'application/xml' }).end('<Error/>');
      return;
    }
    const [, name, digest] = /^\/(.+)\/([^/]+)$/.exec(pathname) ?? [];
    const blob = await store.blob(name ?? '', digest ?? '');
    if (!blob) return sendError(response, 404, 'NoSuchKey');
    return sendBlob(request, response, { ...blob, digest }, faults, stats);
  };

  const failed = (response: ServerResponse, kind: 'manifest' | 'blob' | 'token'): boolean => {
    if (!faults.status || (faults.status.on !== undefined && faults.status.on !== kind)) return false;
    const fault = useFault(faults.status);
    if (!fault) return false;
    if (fault.retryAfter !== undefined) response.setHeader('retry-after', fault.retryAfter);
    sendError(response, fault.code, 'FAULT');
    return true;
  };

  const main = listener(serve, stats, tls);
  const storage = listener(serveStorage, stats, tls);
  const scheme = tls ? 'https' : 'http';
  url = `${scheme}://${address}:${await listen(main, address, port)}`;
  storageUrl = `${scheme}://${address}:${await listen(storage, address, 0)}`;
  return {
    url,
    host: new URL(url).host,
    stats,
    faults,
    revokeTokens: desk.revoke,
    close: async () => {
      await Promise.all([stop(main), stop(storage)]);
    },
  };
}

function listener(
  serve: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  stats: Stats,
  tls: RegistryOptions['tls'],
): Server {
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    serve(request, response).catch((error: unknown) => {
      // A client that goes away while a body is sent is what many tests do.
      if (!response.destroyed) console.error('test registry:', error);
      response.destroy();
    });
  };
  const server = tls ? createTlsServer(tls, answer) : createServer(answer);
  server.keepAliveTimeout = 60_000;
  server.on('connection', (socket) => {
    stats.connections++;
    stats.openConnections++;
    socket.on('close', () => stats.openConnections--);
  });
  return server;
}

function listen(server: Server, address: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, () => resolve((server.address() as AddressInfo).port));
  });
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function sendError(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ errors: [{ code, message: code.toLowerCase().replaceAll('_', ' ') }] }));
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

function sign(secret: Buffer, nonce: string): string {
  return createHmac('sha256', secret).update(nonce).digest('hex');
}
