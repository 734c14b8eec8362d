import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { HubRepository } from './files.ts';
import { startStorage, type TestStorage } from './storage.ts';

/** What the test servers of hubs share. */
export interface TestHub {
  /** `http://127.0.0.1:5000` */
  readonly url: string;
  readonly storage: TestStorage;
  readonly log: IncomingMessage[];
  /** By type and name: `models/Qwen/tiny`. May be changed at any time. */
  readonly repositories: Record<string, HubRepository>;
  /** Answers with this status instead, so many times. */
  fail?: { status: number; times: number; headers?: Record<string, string>; body?: string };
  close(): Promise<void>;
}

export interface HubOptions {
  repositories: Record<string, HubRepository>;
  /** Who sends it sees private repositories. */
  token?: string;
  /** Entries on one page of a listing. */
  page?: number;
}

/** Answers one request; `undefined` means that there is no such thing. */
export type Answer = (
  hub: TestHub,
  options: HubOptions,
  request: IncomingMessage,
  response: ServerResponse,
) => true | undefined;

export async function startHub(options: HubOptions, answer: Answer): Promise<TestHub> {
  const storage = await startStorage();
  const log: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    log.push(request);
    if (hub.fail !== undefined && hub.fail.times > 0) {
      hub.fail.times--;
      response.writeHead(hub.fail.status, hub.fail.headers);
      return void response.end(hub.fail.body);
    }
    if (answer(hub, options, request, response) === undefined) {
      response.writeHead(404, { 'content-type': 'text/plain' });
      response.end('Not found');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hub: TestHub = {
    url,
    storage,
    log,
    repositories: options.repositories,
    async close() {
      server.closeAllConnections();
      await Promise.all([new Promise((resolve) => server.close(resolve)), storage.close()]);
    },
  };
  return hub;
}

export function sendJson(response: ServerResponse, status: number, value: unknown, headers = {}): true {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers });
  response.end(JSON.stringify(value));
  return true;
}
