import { NymphError } from '../../errors.ts';
import { readUpTo } from '../http/request.ts';
import type { Transport } from '../http/transport.ts';
import { retry } from '../retry.ts';

/** A server that preheats, as we speak to it: JSON over HTTP. */
export interface RestServer {
  /** For errors: `the Dragonfly manager at host`. */
  name: string;
  url: URL;
  /** `Bearer …`, `Basic …` */
  authorization: string | undefined;
  /** What to do where it refuses. */
  hint: string;
}

export interface RestRequest {
  method: 'GET' | 'POST';
  /** Relative to the server's address. */
  path: string;
  /** Sent as JSON. */
  body?: object;
}

export interface RestAnswer {
  status: number;
  location: string | undefined;
  /** `undefined` for a body that is empty. */
  value: unknown;
}

const MOST_ANSWER = 4 << 20;
/** A question may be asked again; an order may not. */
const ASK_AGAIN = { attempts: 5, delay: 500, maxDelay: 5_000 };

/** @throws NymphError `denied`, `source` for what is no answer in JSON with a status of 200 or 201 */
export function ask(
  transport: Transport,
  server: RestServer,
  request: RestRequest,
  signal: AbortSignal,
): Promise<RestAnswer> {
  const once = () => askOnce(transport, server, request, signal);
  return request.method === 'GET' ? retry(ASK_AGAIN, signal, once) : once();
}

async function askOnce(
  transport: Transport,
  server: RestServer,
  { method, path, body }: RestRequest,
  signal: AbortSignal,
): Promise<RestAnswer> {
  const { name, url, authorization, hint } = server;
  const headers = {
    accept: 'application/json',
    ...(authorization === undefined ? {} : { authorization }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  };
  const request = { method, url: new URL(path, url), headers, ...(body && { body: JSON.stringify(body) }) };
  let status: number;
  let location: string | undefined;
  let text: string;
  try {
    const response = await transport.send(request, {}, signal);
    status = response.status;
    location = response.header('location');
    text = (await readUpTo(response, MOST_ANSWER)).toString('utf8');
  } catch (error) {
    if (signal.aborted) throw new NymphError('cancelled', 'interrupted');
    const message = `${name} does not answer: ${(error as Error).message}`;
    throw new NymphError('source', message, { retryable: true, cause: error });
  }
  if (status === 401 || status === 403) throw new NymphError('denied', `${name} refuses: status ${status}`, { hint });
  if (status !== 200 && status !== 201)
    throw wrong(server, `status ${status}: ${text.slice(0, 200)}`, status >= 500 || status === 429);
  if (text === '') return { status, location, value: undefined };
  try {
    return { status, location, value: JSON.parse(text) };
  } catch {
    throw wrong(server, 'an answer that is no JSON');
  }
}

/** @returns the answer's object @throws NymphError `source` if it is none */
export function objectOf(server: RestServer, { value }: RestAnswer): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw wrong(server, 'an answer that is no JSON object');
}

export function wrong({ name }: RestServer, what: string, retryable = false): NymphError {
  return new NymphError('source', `${name} gave ${what}`, { retryable });
}
