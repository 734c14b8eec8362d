/**
 * A network whose answers are written down: in place of the transport, below everything that reads what a server says.
 *
 * Answers are separated by lines `--`. The first line of each has the status and the headers, ` | ` between; then comes the
 * body. The status 0 is a connection that breaks; `206!` one that breaks behind the body. A request too many finds nobody.
 */

import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';
import { createHealthBook } from '../../src/sources/http/health.ts';
import type { HttpResponse } from '../../src/sources/http/request.ts';
import { SILENT } from '../../src/sources/log.ts';
import { createAuthorizer } from '../../src/sources/registry/auth.ts';
import type { Candidate } from '../../src/sources/registry/credential.ts';
import type { RegistryNetwork } from '../../src/sources/registry/network.ts';
import { ensure } from './target.ts';

const PIECE = 7;
/** Whatever the answers are, nobody asks more often. */
const MOST_REQUESTS = 200;
const CANDIDATES: Candidate[] = [
  { credential: { kind: 'basic', username: 'me', password: 'secret' }, from: 'a file' },
  { credential: { kind: 'identity', token: 'refresh' }, from: 'a helper' },
];

export interface Answered {
  network: RegistryNetwork;
  requests(): number;
}

/** Pauses between attempts take no time here: nothing else in a run waits for a timer. */
export function skipPauses(): void {
  timers.setTimeout = (async (_: number, value: unknown) => value) as typeof timers.setTimeout;
  syncBuiltinESMExports();
}

export function answersIn(input: Uint8Array): string[] {
  return Buffer.from(input.buffer, input.byteOffset, input.length).toString('latin1').split('\n--\n');
}

/** @param url where the server is taken to be */
export function scriptedNetwork(answers: readonly string[], url: string): Answered {
  let next = 0;
  const send = async (): Promise<HttpResponse> => {
    ensure(next < MOST_REQUESTS, 'it asks again and again');
    const answer = answers[next++];
    if (answer === undefined || answer.startsWith('0'))
      throw Object.assign(new Error('nobody is there'), { code: answer === undefined ? 'ECONNREFUSED' : 'ECONNRESET' });
    return parseAnswer(answer);
  };
  const endpoint = { url: new URL(url), resolve: true, pull: true, headers: {}, upstream: true };
  return {
    requests: () => next,
    network: {
      transport: { send, close: async () => {} },
      hubs: {},
      authorizer: createAuthorizer({
        send,
        async *findCredentials() {
          yield* CANDIDATES;
        },
      }),
      health: createHealthBook(),
      log: SILENT,
      endpoints: async () => [endpoint],
      report: () => [],
      close: async () => {},
    },
  };
}

function parseAnswer(text: string): HttpResponse {
  const end = text.indexOf('\n');
  const [status, ...fields] = (end < 0 ? text : text.slice(0, end)).split(' | ');
  const headers = new Map<string, string[]>();
  for (const field of fields) {
    const colon = field.indexOf(':');
    const name = field.slice(0, Math.max(0, colon)).trim().toLowerCase();
    headers.set(name, [...(headers.get(name) ?? []), field.slice(colon + 1).trim()]);
  }
  const body = Buffer.from(end < 0 ? '' : text.slice(end + 1), 'latin1');
  // HTTP has three digits.
  const code = /^[1-9]\d\d/.test(status) ? Number(status.slice(0, 3)) : 200;
  return {
    status: code,
    header: (name) => headers.get(name)?.[0],
    all: (name) => headers.get(name) ?? [],
    names: () => [...headers.keys()],
    request: { method: 'GET', url: new URL('http://scripted'), headers: {} },
    body: bodyOf(body, /^\d{3}!/.test(status)),
  };
}

/** @param breaks whether the connection breaks at the end */
async function* bodyOf(body: Buffer, breaks: boolean): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < body.length; at += PIECE) yield body.subarray(at, at + PIECE);
  if (breaks) throw Object.assign(new Error('other side closed'), { code: 'UND_ERR_SOCKET' });
}
