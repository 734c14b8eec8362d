/** A stand-in for dfdaemon's HTTP proxy in its way as a registry mirror, which can be told to fail. */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Times, use } from './faults.ts';

export interface ProxyFaults {
  /** An answer with this status; who is to blame stands in a header, as a real one has it. */
  error?: Times & { status: number; by?: 'backend' | 'proxy' | 'dfdaemon'; header?: Record<string, string> };
  /** The connection is cut after so many bytes of a body. */
  cut?: Times & { after: number };
  /** No answer at all. */
  stall?: Times;
  /** A bit in the midst of the body is wrong. */
  flip?: Times;
}

export interface DfdaemonProxy {
  readonly address: URL;
  readonly faults: ProxyFaults;
  readonly asked: { url: string; headers: IncomingHttpHeaders }[];
  /** By digest, in hex. */
  readonly objects: Map<string, Buffer>;
  close(): Promise<void>;
}

export async function startDfdaemonProxy(port = 0): Promise<DfdaemonProxy> {
  const faults: ProxyFaults = {};
  const asked: DfdaemonProxy['asked'] = [];
  const objects = new Map<string, Buffer>();
  const server = createServer((request, response) => {
    asked.push({ url: request.url ?? '', headers: request.headers });
    if (use(faults.stall) !== undefined) return;
    const error = use(faults.error);
    const fail = (status: number, by: string | undefined, header: Record<string, string> = {}) =>
      response.writeHead(status, { ...header, ...(by && { 'X-Dragonfly-Error-Type': by }) }).end('no');
    if (error !== undefined) return void fail(error.status, error.by, error.header);
    const found = objects.get(/\/blobs\/sha256:([0-9a-f]{64})/.exec(request.url ?? '')?.[1] ?? '');
    if (found === undefined || request.headers['x-dragonfly-use-p2p'] !== 'true') return void fail(404, 'backend');
    const bytes = Buffer.from(found);
    if (use(faults.flip) !== undefined) bytes[bytes.length >> 1] ^= 1;
    response.writeHead(200, { 'content-length': bytes.length, 'x-dragonfly-task-id': 'x' });
    const cut = use(faults.cut);
    if (cut === undefined) response.end(bytes);
    else response.write(bytes.subarray(0, cut.after), () => request.socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    address: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    faults,
    asked,
    objects,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
