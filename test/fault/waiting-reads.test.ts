/**
 * Ten thousand reads wait for a registry that stands still: the daemon's memory stays bounded, and all are answered. The
 * kernel hands 512 of them to the daemon (`max_background`), and keeps the others.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cannotMount, testDaemon, until } from '../daemon.ts';
import { makeImage } from '../made-image.ts';
import type { ManyReads } from '../many-reads.ts';
import { startRegistry } from '../registry/registry.ts';
import { makeBigFile } from '../tree.ts';

const READER = fileURLToPath(new URL('../many-reads.ts', import.meta.url));
const PROCESSES = 10;
const READS = 1_000;
const HANDED_OVER = 512;
/** One chunk for each read. */
const CHUNK = 8 << 10;
/** More than they take (7 MiB were seen), and less than a buffer for each would. */
const MOST_GROWTH = 100 << 20;

test('10,000 waiting reads', { skip: cannotMount() }, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const image = await makeImage(
    directory,
    'app',
    (tree) => makeBigFile(join(tree, 'big'), PROCESSES * READS * CHUNK, 1),
    { chunkSize: CHUNK },
  );
  const registry = await startRegistry({ layouts: { app: image.layout } });
  t.after(() => registry.close());
  const toml =
    '[fetch]\ndeadline = "30m"\ntraces = false\n[registry]\nbody_timeout = "5s"\n[dragonfly]\nendpoint = "none"\n';
  const daemon = await testDaemon(t, { toml });
  const place = daemon.place('m');
  const options = { prefetch: 'none', via: 'fuse' } as const;
  await daemon.client.mount({ reference: `${registry.host}/app:app`, directory: place, options });
  const { pid } = await daemon.client.health();
  const before = resident(pid);

  registry.faults.blob = { kind: 'stall', after: 100 };
  let asked = 0;
  const readers = Array.from({ length: PROCESSES }, (_, i) => {
    const args = [READER, join(image.truth, 'big'), join(place, 'big'), ...[i * READS, READS, CHUNK].map(String)];
    const child = spawn(process.execPath, args, { env: { ...process.env, UV_THREADPOOL_SIZE: String(READS) } });
    t.after(() => void child.kill('SIGKILL'));
    child.stderr.on('data', (text) => (asked += String(text).split('asked').length - 1));
    return json(child.stdout) as Promise<ManyReads>;
  });
  let most = 0;
  await until(600_000, 'not all reads have come', async () => {
    most = Math.max(most, resident(pid));
    const { waiting } = (await daemon.client.status()).fuse;
    return (asked === PROCESSES && waiting >= HANDED_OVER) || undefined;
  });
  // They wait for a while: requests that stand still are given up and sent again.
  for (let i = 0; i < 20; i++) {
    await daemon.client.health();
    most = Math.max(most, resident(pid));
    await sleep(250);
  }
  assert.ok(most - before < MOST_GROWTH, `grew from ${before >> 20} to ${most >> 20} MiB`);

  delete registry.faults.blob;
  const all: ManyReads = { right: 0, wrong: 0, failed: {} };
  for (const { right, wrong, failed } of await Promise.all(readers)) {
    all.right += right;
    all.wrong += wrong;
    Object.assign(all.failed, failed);
  }
  assert.deepEqual(all, { right: PROCESSES * READS, wrong: 0, failed: {} });
  assert.equal((await daemon.client.status()).fuse.waiting, 0);
  assert.equal((await daemon.client.health()).pid, pid, 'it is the same daemon');
  t.diagnostic(`memory grew by ${(most - before) >> 20} MiB`);
});

/** Bytes */
function resident(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;
}
