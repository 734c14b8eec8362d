import { createHmac, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A storage behind a hub: objects by signed addresses that expire, as CDNs and Xet's bridge give them out. */
export interface TestStorage {
  readonly host: string;
  /** Requests, with their headers. */
  readonly log: IncomingMessage[];
  /** Puts an object there. @returns an address for it, good for the storage's lifetime of signatures */
  sign(key: string, bytes: Buffer): string;
  /** Makes all addresses that were given worthless. */
  expireAll(): void;
  close(): Promise<void>;
}

export async function startStorage(address = '127.0.0.1'): Promise<TestStorage> {
  const objects = new Map<string, Buffer>();
  const log: IncomingMessage[] = [];
  let secret = randomBytes(16);
  const signature = (key: string) => createHmac('sha256', secret).update(key).digest('hex');

  const server = createServer((request, response) => {
    log.push(request);
    const url = new URL(request.url ?? '/', 'http://storage');
    const key = url.pathname.slice(1);
    const bytes = objects.get(key);
    // S3 refuses a request that is authorized twice.
    if (request.headers.authorization !== undefined) return refuse(response, 400, 'InvalidArgument');
    if (bytes === undefined || url.searchParams.get('Signature') !== signature(key))
      return refuse(response, 403, 'AccessDenied');
    sendRange(request, response, bytes, { etag: `"${key}"` });
  });
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  const host = `${address}:${(server.address() as AddressInfo).port}`;
  return {
    host,
    log,
    sign(key, bytes) {
      objects.set(key, bytes);
      return `http://${host}/${key}?Expires=1790000000&Key-Pair-Id=K2&Signature=${signature(key)}`;
    },
    expireAll() {
      secret = randomBytes(16);
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>Access denied</Message></Error>`);
}

/** Answers with the range that was asked for (RFC 9110 §14). */
export function sendRange(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  headers: Record<string, string>,
): void {
  const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const common = { 'accept-ranges': 'bytes', 'content-type': 'application/octet-stream', ...headers };
  if (match === null) {
    response.writeHead(200, { ...common, 'content-length': bytes.length });
    return void response.end(request.method === 'HEAD' ? undefined : bytes);
  }
  const first = Number(match[1]);
  const last = Math.min(match[2] === '' ? bytes.length - 1 : Number(match[2]), bytes.length - 1);
  if (first > last) {
    response.writeHead(416, { ...common, 'content-range': `bytes */${bytes.length}` });
    return void response.end();
  }
  const part = bytes.subarray(first, last + 1);
  const range = `bytes ${first}-${last}/${bytes.length}`;
  response.writeHead(206, { ...common, 'content-range': range, 'content-length': part.length });
  response.end(part);
}
