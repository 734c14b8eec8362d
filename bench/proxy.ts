/**
 * A TCP proxy that makes a path of given round-trip time and bandwidth out of the loopback device, in user space.
 *
 *   node bench/proxy.ts --listen 127.0.0.1:0 --to HOST:PORT [--rtt MS] [--rate BITS_PER_SECOND]
 *
 * prints `{"host":…,"port":…}` and, at each SIGUSR1 and at the end (SIGTERM, SIGINT), its counts as one JSON line.
 * The handshake costs one round trip, as on a wire. The bandwidth holds for each direction, over all connections, which
 * take turns. Run it as its own process: its timers need a thread that nobody blocks.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createLink, type Flow, type Link } from './link.ts';

export interface ProxyOptions {
  to: { host: string; port: number };
  /** Default 127.0.0.1 and a free port. */
  listen?: { host: string; port: number };
  /** Round-trip time in ms. Default 0. */
  rtt?: number;
  /** Bits per second in each direction. Default no limit. */
  rate?: number;
}

export interface ProxyStats {
  /** Bytes that crossed from clients to the target. */
  up: number;
  /** Bytes that crossed from the target to clients. */
  down: number;
  /** Connections accepted since the start. */
  connections: number;
  /** Connections open now. */
  open: number;
}

export interface Proxy {
  host: string;
  port: number;
  stats(): ProxyStats;
  /** Ends every connection and stops listening. */
  close(): Promise<void>;
}

/** Starts a proxy in this process. */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const { rtt = 0, rate = Infinity } = options;
  if (!(rtt >= 0) || !(rate > 0)) throw new RangeError(`rtt ${rtt} ms, rate ${rate} bit/s: not a path`);
  const up = createLink(rtt / 2, rate);
  const down = createLink(rtt / 2, rate);
  // What one connection may have on the way: the path's own content and a queue that keeps the link busy.
  const window = Math.min(64 << 20, (2 << 20) + (rate === Infinity ? 4 << 20 : ((rate / 8) * (rtt / 2)) / 1000));
  const sockets = new Set<Socket>();
  let connections = 0;
  let open = 0;

  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (client) => {
    connections++;
    open++;
    const track = (socket: Socket): void => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
    };
    track(client);
    client.once('close', () => open--);
    // The target is reached when the client's handshake would have ended.
    const handshake = setTimeout(() => {
      const target = connect({ ...options.to, allowHalfOpen: true, noDelay: true });
      track(target);
      target.pause();
      pump(client, target, up, window);
      pump(target, client, down, window);
      target.once('connect', () => {
        client.resume();
        target.resume();
      });
    }, rtt);
    client.once('close', () => clearTimeout(handshake));
    client.on('error', () => clearTimeout(handshake));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.listen?.port ?? 0, options.listen?.host ?? '127.0.0.1', resolve);
  });
  const { address: host, port } = server.address() as AddressInfo;
  return {
    host,
    port,
    stats: () => ({ up: up.bytes(), down: down.bytes(), connections, open }),
    close: () =>
      new Promise((resolve) => {
        up.close();
        down.close();
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Carries one direction of a connection: data, end of stream and failure. */
function pump(from: Socket, to: Socket, link: Link, window: number): void {
  /** Bytes taken from `from` that `to` has not passed on. */
  let held = 0;
  const flow: Flow = {
    queue: [],
    waiting: false,
    dead: false,
    deliver(piece) {
      if (piece === null) to.end();
      else
        to.write(piece, () => {
          held -= piece.length;
          if (from.isPaused() && held <= window / 2) from.resume();
        });
    },
  };
  from.on('data', (data: Buffer) => {
    held += data.length;
    if (held >= window) from.pause();
    link.send(flow, data);
  });
  from.once('end', () => link.send(flow, null));
  const fail = (): void => {
    flow.dead = true;
    from.resetAndDestroy();
    to.resetAndDestroy();
  };
  from.once('error', fail);
  // A receiver that is gone ends the connection; one that closed after both ends did is the normal end.
  to.once('close', () => {
    if (!from.readableEnded) fail();
    flow.dead = true;
  });
}

export interface ProxyProcess {
  host: string;
  port: number;
  pid: number;
  stats(): Promise<ProxyStats>;
  close(): Promise<void>;
}

/** Starts the proxy as a process of its own. */
export async function spawnProxy(options: ProxyOptions): Promise<ProxyProcess> {
  const args = [fileURLToPath(import.meta.url), '--to', `${options.to.host}:${options.to.port}`];
  if (options.listen) args.push('--listen', `${options.listen.host}:${options.listen.port}`);
  if (options.rtt !== undefined) args.push('--rtt', String(options.rtt));
  if (options.rate !== undefined && options.rate !== Infinity) args.push('--rate', String(options.rate));
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout });
  const nextLine = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const gone = (): void => reject(new Error(`the proxy ended (${child.exitCode ?? child.signalCode})`));
      lines.once('close', gone);
      lines.once('line', (line) => {
        lines.off('close', gone);
        resolve(line);
      });
    });
  const { host, port } = JSON.parse(await nextLine()) as { host: string; port: number };
  return {
    host,
    port,
    pid: child.pid!,
    async stats() {
      const line = nextLine();
      child.kill('SIGUSR1');
      return JSON.parse(await line) as ProxyStats;
    },
    close: () => ended(child),
  };
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
}

function address(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1));
  if (colon < 1 || !Number.isInteger(port) || port < 0 || port > 65535) throw new Error(`${text} is not HOST:PORT`);
  return { host: text.slice(0, colon), port };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      listen: { type: 'string', default: '127.0.0.1:0' },
      to: { type: 'string' },
      rtt: { type: 'string', default: '0' },
      rate: { type: 'string', default: 'Infinity' },
    },
  });
  if (!values.to)
    throw new Error('usage: proxy.ts --to HOST:PORT [--listen HOST:PORT] [--rtt MS] [--rate BITS_PER_SECOND]');
  const proxy = await startProxy({
    to: address(values.to),
    listen: address(values.listen),
    rtt: Number(values.rtt),
    rate: Number(values.rate),
  });
  const print = (value: unknown): boolean => process.stdout.write(`${JSON.stringify(value)}\n`);
  process.on('SIGUSR1', () => print(proxy.stats()));
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.once(signal, () => {
      print(proxy.stats());
      void proxy.close();
    });
  print({ host: proxy.host, port: proxy.port });
}

if (import.meta.main)
  main().catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 2;
  });
