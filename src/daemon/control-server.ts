import { chmod } from 'node:fs/promises';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, NymphError } from '../errors.ts';
import type { ApiError, Progress, StreamLine } from './api.ts';
import { claimSocket } from './socket.ts';

// An `import` of node:http would load Node's own undici, 5 MB, beside ours.
const { createServer } = process.getBuiltinModule('node:http');

/** HTTP on a unix socket for the control API (`api.ts`): routing, JSON, streams of progress. What the calls do is given. */

/** Answers with one JSON document. `query` and `body` are not checked yet. */
export type Call = (request: { rest: string; query: URLSearchParams; body: unknown }) => unknown | Promise<unknown>;
/** Long work: reports progress, and stops when the client hangs up. */
export type Work = (body: unknown, progress: (progress: Progress) => void, signal: AbortSignal) => Promise<unknown>;

/** Answers with what is no JSON document of a call. */
export type Page = () => Promise<PageAnswer>;

export interface PageAnswer {
  /** 200 by default. */
  status?: number;
  headers: Record<string, string>;
  body: string | Buffer;
}

export interface Routes {
  /** By `METHOD /path`; a path that ends with `/` takes the rest of the URL. */
  calls: Record<string, Call>;
  works: Record<string, Work>;
  pages?: Record<string, Page>;
}

const STATUS: Partial<Record<ErrorCode, number>> = {
  usage: 400,
  config: 400,
  'not-found': 404,
  denied: 403,
  unsupported: 422,
  busy: 409,
};
/** A list of 100,000 files. */
const MOST_BODY = 8 << 20;
/** Progress lines are for people: this often is enough. */
const PROGRESS_MS = 100;

/** What is nearly done when the daemon ends is answered, ms. */
const FINISH_MS = 500;

/** Takes no more requests, and lets those that are running end, for a moment. */
export async function closeServer(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeIdleConnections();
  await Promise.race([closed, sleep(FINISH_MS, undefined, { ref: false })]);
  server.closeAllConnections();
}

/**
 * Listens on the unix socket `address` (mode 0600). A socket that nobody answers is replaced.
 * @param onListening called before the first client can be answered
 * @throws NymphError `busy` if a daemon answers there.
 */
export async function serveControl(
  address: string,
  routes: Routes,
  log: (message: string, fields: object) => void,
  onListening: () => void,
): Promise<Server> {
  await claimSocket(address);
  const server = createServer((request, response) => {
    handle(routes, request, response).catch((error) => {
      log('a control request failed', { method: request.method, path: request.url, error });
      sendError(response, error);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      onListening();
      resolve();
    });
  });
  await chmod(address, 0o600);
  return server;
}

/** Answers one request, or throws why not before anything was sent. */
export async function handle(routes: Routes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = urlOf(request);
  const name = `${request.method} ${url.pathname}`;
  if (request.method !== 'GET') refuseBrowsers(request);
  const page = routes.pages?.[name];
  if (page !== undefined) {
    const { status = 200, headers, body } = await page();
    response.writeHead(status, headers).end(body);
    return;
  }
  const work = routes.works[name];
  if (work !== undefined) return stream(work, await readBody(request), response);
  const route = Object.keys(routes.calls).find((key) => key === name || (key.endsWith('/') && name.startsWith(key)));
  if (route === undefined) throw new NymphError('not-found', `the control API has no ${name}`);
  const body = request.method === 'POST' ? await readBody(request) : undefined;
  const rest = decode(name.slice(route.length));
  const result = await routes.calls[route]({ rest, query: url.searchParams, body });
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(result ?? {}));
}

export function urlOf(request: IncomingMessage): URL {
  try {
    return new URL(request.url ?? '/', 'http://nymph');
  } catch (error) {
    throw new NymphError('usage', 'the control API was asked for no path', { cause: error });
  }
}

/** Who forwards the socket to look at the page must not let every page of the web stop the daemon. */
function refuseBrowsers({ headers }: IncomingMessage): void {
  if (headers.origin === undefined && headers['sec-fetch-site'] === undefined) return;
  throw new NymphError('denied', 'the control API changes nothing for a browser', { hint: 'Use the command line.' });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new NymphError('usage', `the control API was asked wrongly: ${text} is not URL-encoded`, { cause: error });
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MOST_BODY) throw new NymphError('usage', 'the request is too large');
    parts.push(part);
  }
  if (size === 0) return {};
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch (error) {
    throw new NymphError('usage', 'the request is not JSON', { cause: error });
  }
}

async function stream(work: Work, body: unknown, response: ServerResponse): Promise<void> {
  const abort = new AbortController();
  response.on('close', () => abort.abort());
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const send = (line: StreamLine<unknown>) => {
    if (!response.writableEnded && !response.destroyed) response.write(`${JSON.stringify(line)}\n`);
  };
  let last = 0;
  let stage: string | undefined;
  const progress = (now: Progress) => {
    if (now.stage === stage && performance.now() - last < PROGRESS_MS) return;
    stage = now.stage;
    last = performance.now();
    send({ type: 'progress', progress: now });
  };
  try {
    send({ type: 'done', result: await work(body, progress, abort.signal) });
  } catch (error) {
    send({ type: 'error', ...toApiError(error) });
  }
  response.end();
}

export function sendError(response: ServerResponse, error: unknown): void {
  const body = toApiError(error);
  if (response.headersSent) response.destroy();
  else
    response
      .writeHead(STATUS[body.error.code] ?? 500, { 'content-type': 'application/json' })
      .end(JSON.stringify(body));
}

function toApiError(error: unknown): ApiError {
  if (error instanceof NymphError) return { error: { code: error.code, message: error.message, hint: error.hint } };
  return { error: { code: 'internal', message: error instanceof Error ? error.message : String(error) } };
}
