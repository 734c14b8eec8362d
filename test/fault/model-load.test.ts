/** `kill -9` of the daemon while 8 threads load a model of 2 GB: nobody sees an error, and every byte is right. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { cannotMount, testDaemon, until } from '../daemon.ts';
import { type Descriptor, makeModel, putManifest } from '../model.ts';
import { startRegistry } from '../registry/registry.ts';

const MIB = 1 << 20;
const SHARDS = 2;
const SHARD = 1000 * MIB;
const THREADS = 8;
const BLOCK = 2 * MIB;
/** Shares of the load that are through when the daemon is killed. */
const KILLS = [0.1, 0.3, 0.5, 0.7];

/** What block `i` of a shard begins with; the rest is zeros, so that the disk need not hold it. */
function mark(shard: number, block: number): Buffer {
  return createHash('sha512').update(`shard ${shard} block ${block}`).digest();
}

interface Task {
  path: string;
  shard: number;
  first: number;
  last: number;
}

/** A thread of the reader: compares its blocks, in order. */
function readBlocks({ path, shard, first, last }: Task): void {
  const fd = openSync(path, 'r');
  const buffer = Buffer.allocUnsafeSlow(BLOCK);
  const zeros = Buffer.alloc(BLOCK);
  for (let block = first; block < last; block++) {
    for (let got = 0; got < BLOCK; ) {
      const more = readSync(fd, buffer, got, BLOCK - got, block * BLOCK + got);
      if (more === 0) throw new Error(`${path} ends in block ${block}`);
      got += more;
    }
    const head = mark(shard, block);
    const isRight =
      buffer.subarray(0, head.length).equals(head) && buffer.subarray(head.length).equals(zeros.subarray(head.length));
    if (!isRight) throw new Error(`block ${block} of ${path} is wrong`);
    parentPort!.postMessage('block');
  }
  closeSync(fd);
}

/** The reader, a process of its own: prints a line for each block. An error in a thread ends it. */
function readModel(directory: string): void {
  for (let thread = 0; thread < THREADS; thread++) {
    const shard = thread % SHARDS;
    const share = SHARD / BLOCK / (THREADS / SHARDS);
    const part = Math.floor(thread / SHARDS);
    const task: Task = { path: join(directory, nameOf(shard)), shard, first: part * share, last: (part + 1) * share };
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: task });
    worker.on('message', () => console.log('block'));
    worker.on('error', (error) => {
      console.error(error);
      process.exit(1);
    });
  }
}

const nameOf = (shard: number) => `model-0000${shard + 1}-of-0000${SHARDS}.safetensors`;

/** Sparse shards in an OCI layout: 2 GB that take a few MB of disk. */
function makeSparseModel(layout: string): void {
  makeModel(layout, 'small', []);
  const layers = Array.from({ length: SHARDS }, (_, shard): Descriptor => {
    const path = join(layout, `shard-${shard}`);
    const fd = openSync(path, 'w+');
    const hash = createHash('sha256');
    const block = Buffer.alloc(BLOCK);
    for (let i = 0; i < SHARD / BLOCK; i++) {
      mark(shard, i).copy(block);
      hash.update(block);
      writeSync(fd, block, 0, 4096, i * BLOCK);
    }
    closeSync(fd);
    truncateSync(path, SHARD);
    const hex = hash.digest('hex');
    renameSync(path, join(layout, 'blobs/sha256', hex));
    return {
      mediaType: 'application/vnd.cncf.model.weight.v1.raw',
      digest: `sha256:${hex}`,
      size: SHARD,
      annotations: { 'org.cncf.model.filepath': nameOf(shard) },
    };
  });
  putManifest(layout, 'v1', {
    artifactType: 'application/vnd.cncf.model.manifest.v1+json',
    config: { mediaType: 'application/vnd.cncf.model.config.v1+json', digest: layers[0].digest, size: 2 },
    layers,
  });
}

function noSpace(): string | false {
  const { bavail, bsize } = statfsSync('/tmp');
  return bavail * bsize < 4e9 && 'needs 4 GB of free space in /tmp';
}

if (!isMainThread) readBlocks(workerData as Task);
else if (process.argv[2] !== undefined) readModel(process.argv[2]);
else
  describe('a load of 2 GB by 8 threads', { skip: cannotMount() || noSpace() }, () => {
    test('is not disturbed by kill -9 of the daemon', async (t: TestContext) => {
      const daemon = await testDaemon(t);
      const layout = join(daemon.directory, 'layout');
      mkdirSync(layout);
      t.after(() => rmSync(layout, { recursive: true, force: true }));
      makeSparseModel(layout);
      const registry = await startRegistry({ layouts: { sparse: layout } });
      t.after(() => registry.close());
      await daemon.supervised();
      const place = daemon.place('m');
      const mounted = await daemon.nymph('mount', '--prefetch', 'none', `${registry.host}/sparse:v1`, place);
      assert.equal(mounted.status, 0, mounted.err);

      const reader = spawn(process.execPath, [fileURLToPath(import.meta.url), place], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      t.after(() => void reader.kill('SIGKILL'));
      const said: Buffer[] = [];
      reader.stderr.on('data', (data: Buffer) => said.push(data));
      let blocks = 0;
      createInterface({ input: reader.stdout }).on('line', () => blocks++);
      const closed = once(reader, 'close');

      const all = (SHARDS * SHARD) / BLOCK;
      let killed = 0;
      for (const share of KILLS) {
        await until(
          120_000,
          'the load does not go on',
          async () => blocks >= share * all || reader.exitCode !== null || undefined,
        );
        if (reader.exitCode !== null || blocks === all) break;
        const { pid } = await daemon.client.health();
        await daemon.kill('daemon');
        await daemon.another(pid);
        killed++;
      }
      const [code] = (await closed) as [number | null];
      assert.equal(code, 0, Buffer.concat(said).toString());
      assert.equal(blocks, all);
      assert.ok(killed > 0, 'the load was through before anybody was killed');
      t.diagnostic(`killed ${killed} times`);
    });
  });
