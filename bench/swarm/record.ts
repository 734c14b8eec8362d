/**
 * Records how a real dfdaemon hands over pieces that another peer has: `node bench/swarm/record.ts [ROUNDS]`, with `scheduler`,
 * `dfdaemon` and `dfget` on the PATH. Writes dfdaemon-pieces.json, beside it, for the simulation.
 */
import { execFile } from 'node:child_process';
import { hash, randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { byGrpc } from '../../src/sources/dragonfly/by-grpc.ts';
import { createDragonfly } from '../../src/sources/dragonfly/dragonfly.ts';
import { noCluster, startCluster } from '../../test/dragonfly/cluster.ts';
import { RECORDED } from './behaviour.ts';
import type { Behaviour } from './simulate.ts';

const SIZE = 46_000_000;
const SILENT = { debug() {}, info() {}, warn() {} };

const missing = noCluster();
if (missing !== false) {
  console.error(`Nothing can be recorded here: ${missing}`);
  process.exit(1);
}
const bytes = randomBytes(SIZE);
const digest = `sha256:${hash('sha256', bytes)}` as const;
const server = createServer((request, response) => {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  const [from, to] = range ? [Number(range[1]), Number(range[2])] : [0, SIZE - 1];
  const part = bytes.subarray(from, to + 1);
  const headers = { 'content-length': part.length, ...(range && { 'content-range': `bytes ${from}-${to}/${SIZE}` }) };
  response.writeHead(range ? 206 : 200, headers).end(part);
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const undo: (() => void)[] = [() => server.close()];
const behaviour: Behaviour = { first: [], gap: [] };
try {
  const cluster = await startCluster((clean) => undo.push(clean), origin);
  for (let round = 0; round < Number(process.argv[2] ?? 10); round++) {
    const tag = `record-${round}`;
    const url = new URL(`${origin}/v2/x/blobs/${digest}`);
    const output = join(cluster.directory, 'output');
    // Its origin is this process.
    await promisify(execFile)('dfget', [url.href, '--output', output, '--tag', tag, '--endpoint', cluster.sockets[0]]);
    rmSync(output);
    const task = { priority: 6, digestIds: false, tag };
    const swarm = await createDragonfly(byGrpc(`unix://${cluster.sockets[1]}`, true, SILENT), task, SILENT);
    const object = { digest, location: async () => ({ url, headers: {}, certificates: [] }) };
    await swarm.look(object);
    let last = performance.now();
    const { pieces } = await swarm.open(object, new AbortController().signal);
    let list = behaviour.first;
    for await (const _ of pieces) {
      const now = performance.now();
      list.push(now - last);
      list = behaviour.gap;
      last = now;
    }
    swarm.close();
  }
} finally {
  for (const clean of undo.reverse()) clean();
}

const rounded = (list: number[]) => list.map((time) => Math.round(time * 10) / 10);
writeFileSync(RECORDED, `${JSON.stringify({ first: rounded(behaviour.first), gap: rounded(behaviour.gap) })}\n`);
console.error(RECORDED);
