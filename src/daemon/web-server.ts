import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { NymphError } from '../errors.ts';
import { handle, type Routes, sendError, urlOf } from './control-server.ts';

const { createServer } = process.getBuiltinModule('node:http');

/**
 * HTTP on a TCP port, for metrics and the page. It only reads: whoever reaches the port can change nothing. What says more
 * than how the node fares needs the token.
 */

export interface WebOptions {
  /** `host:port` */
  listen: string;
  /** File that holds the token; without one nobody is told more than what is open to all. */
  token?: string;
}

const OPEN: readonly string[] = ['GET /', 'GET /metrics', 'GET /v1/health', 'GET /v1/ready'];
const SHORTEST_TOKEN = 16;
const MOST_CONNECTIONS = 64;
/** An earlier daemon may be about to go. */
const AGAIN_MS = 1000;

export interface WebServer {
  /** Why it is not served, while it is not. */
  readonly problem: string | undefined;
  close(): void;
}

/**
 * Listens; where the port is taken, it goes on trying.
 * @throws NymphError `config` if the file of the token has none
 */
export async function serveWeb(
  { listen, token }: WebOptions,
  routes: Routes,
  log: (message: string, fields: object) => void,
): Promise<WebServer> {
  if (token !== undefined) await readToken(token);
  const readable: Routes = { calls: reading(routes.calls), works: {}, pages: reading(routes.pages ?? {}) };
  const { host, port } = addressOf(listen);
  let problem: string | undefined;
  let retry: NodeJS.Timeout | undefined;
  const server: Server = createServer((request, response) => {
    const isAllowed = () => mayRead(request.headers.authorization, token, log);
    answer(readable, isAllowed, request, response).catch((error) => sendError(response, error));
  });
  server.maxConnections = MOST_CONNECTIONS;
  const tried = Promise.withResolvers<void>();
  server.on('listening', () => {
    problem = undefined;
    tried.resolve();
  });
  server.on('error', (error) => {
    if (problem !== error.message) log('the port for metrics and the page cannot be listened on', { listen, error });
    problem = error.message;
    retry = setTimeout(() => server.listen(port, host), AGAIN_MS).unref();
    tried.resolve();
  });
  server.listen(port, host);
  await tried.promise;
  return {
    get problem() {
      return problem === undefined ? undefined : `metrics and the page are not served on ${listen}: ${problem}`;
    },
    close() {
      clearTimeout(retry);
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  routes: Routes,
  isAllowed: () => Promise<boolean>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const name = `${request.method} ${urlOf(request).pathname}`;
  if (!OPEN.includes(name) && !(await isAllowed())) {
    response.writeHead(401, { 'www-authenticate': 'Bearer realm="nymph"', 'content-type': 'application/json' });
    const hint = 'Send what is in the file that control.token of its configuration names, as a bearer token.';
    response.end(JSON.stringify({ error: { code: 'denied', message: 'this needs the token of the daemon', hint } }));
    return;
  }
  await handle(routes, request, response);
}

/** The file is read each time: a token can be changed while the daemon runs. */
async function mayRead(
  header: string | undefined,
  file: string | undefined,
  log: (message: string, fields: object) => void,
): Promise<boolean> {
  const given = header?.match(/^Bearer +(\S+)$/i)?.[1];
  if (given === undefined || file === undefined) return false;
  const digest = (text: string) => createHash('sha256').update(text).digest();
  try {
    return timingSafeEqual(digest(given), digest(await readToken(file)));
  } catch (error) {
    // For who runs the daemon, not for who asks.
    log('nobody can show the token', { error });
    return false;
  }
}

async function readToken(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new NymphError('config', `cannot read control.token, ${file}: ${error.code}`, { cause: error });
  });
  const token = text.trim();
  if (token.length >= SHORTEST_TOKEN && /^\S+$/.test(token)) return token;
  throw new NymphError('config', `control.token, ${file}, has no token of ${SHORTEST_TOKEN} characters or more`, {
    hint: 'Make one with `openssl rand -hex 32`.',
  });
}

function reading<T>(routes: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(routes).filter(([name]) => name.startsWith('GET ')));
}

function addressOf(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(':');
  return { host: listen.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(listen.slice(colon + 1)) };
}
