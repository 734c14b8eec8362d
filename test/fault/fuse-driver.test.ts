/** The driver of the kernel's FUSE protocol by itself, under odd requests, interrupts and changes behind its back. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { DriverStatistics } from '../../src/fuse/driver.ts';
import { cannotMount, clearMounts, isAlive, run, until } from '../daemon.ts';

const skip = cannotMount();
const SERVER = fileURLToPath(new URL('./fuse-server.ts', import.meta.url));

type Said = Partial<DriverStatistics> & {
  up?: true;
  waiting?: true;
  rounds?: number;
  refused?: number;
  interrupted?: number;
};

interface Server {
  child: ChildProcess;
  tell(line: string): void;
  /** The next thing it says that has this field. */
  said(field: keyof Said): Promise<Said>;
}

interface Connection {
  directory: string;
  start(life: 'first' | 'second'): Promise<Server>;
}

/** A mount whose descriptor this process keeps, as the supervisor does. */
function connect(t: TestContext): Connection {
  const scratch = mkdtempSync('/tmp/nymph-');
  const directory = join(scratch, 'fs');
  mkdirSync(directory);
  const fuse = openSync('/dev/fuse', 'r+');
  const children: ChildProcess[] = [];
  t.after(async () => {
    for (const child of children) child.kill('SIGKILL');
    closeSync(fuse);
    await clearMounts(scratch);
    rmSync(scratch, { recursive: true, force: true });
  });
  return {
    directory,
    async start(life) {
      const child = spawn(process.execPath, [SERVER, directory, life], { stdio: ['pipe', 'pipe', 'inherit', fuse] });
      children.push(child);
      const lines: Said[] = [];
      createInterface({ input: child.stdout! }).on('line', (line) => lines.push(JSON.parse(line) as Said));
      const server: Server = {
        child,
        tell: (line) => void child.stdin!.write(`${line}\n`),
        said: (field) =>
          until(15_000, `the server says nothing of ${field}`, async () => {
            const at = lines.findIndex((line) => field in line);
            return at < 0 ? undefined : lines.splice(at, 1)[0];
          }),
      };
      await server.said('up');
      return server;
    },
  };
}

/** Reads with a program of its own: this process keeps the connection's descriptor. */
const sh = (script: string) => run('sh', ['-c', script], { timeout: 20_000 });

test('files that come and go while they are read never show bytes of another', { skip }, async (t) => {
  const { directory, start } = connect(t);
  const server = await start('first');
  server.tell('churn');
  // Each file is full of the byte that is its number; pages are dropped so that each read comes to the driver.
  const script = `
    import { openSync, readSync, closeSync } from 'node:fs';
    import koffi from 'koffi';
    const advise = koffi.load('libc.so.6').func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
    const buffer = Buffer.alloc(65536);
    let reads = 0;
    for (const end = Date.now() + 2200; Date.now() < end; ) {
      const n = Math.floor(Math.random() * 8);
      const fd = openSync('${directory}/f' + n, 'r');
      advise(fd, 0, 0, 4);
      const offset = 4096 * Math.floor(Math.random() * 240);
      const length = readSync(fd, buffer, 0, 65536, offset);
      closeSync(fd);
      if (!buffer.subarray(0, length).every((byte) => byte === n)) throw new Error('f' + n + ' shows other bytes at ' + offset);
      reads++;
    }
    console.log(reads);`;
  const readers = await Promise.all(
    Array.from({ length: 4 }, () => run(process.execPath, ['--input-type=module', '-e', script], { timeout: 20_000 })),
  );
  for (const { status, err } of readers) assert.equal(status, 0, err);
  const { rounds } = await server.said('rounds');
  server.tell('statistics');
  const { hits, faults } = await server.said('hits');
  t.diagnostic(`${rounds} rounds, ${hits} hits, ${faults} faults`);
  assert.ok(rounds! > 50 && hits! > 500 && faults! > 500);
});

test('operations that are not served, and answers that fit no request, do not end the connection', {
  skip,
}, async (t) => {
  const { directory, start } = connect(t);
  const server = await start('first');
  for (const [script, status] of [
    [`cat ${directory}/none`, 1],
    [`cat ${directory}/${'n'.repeat(300)}`, 1],
    [`readlink ${directory}/f1`, 1],
    // An ioctl, which is not served.
    [`lsattr ${directory}/f1`, 1],
    [`cp --sparse=always ${directory}/f1 /dev/null`, 0],
    [`stat -f ${directory}`, 0],
  ] as const)
    assert.equal((await sh(script)).status, status, script);
  server.tell('noise');
  assert.equal((await server.said('refused')).refused, 4);
  const same = await sh(`head -c 100000 ${directory}/f3 | tr -d '\\003' | wc -c; ls ${directory} | wc -l`);
  assert.deepEqual(same.out.toString().trim().split(/\s+/), ['0', '9']);
  server.tell('statistics');
  const { requests } = await server.said('requests');
  assert.ok(
    Object.keys(requests!).some((op) => op.startsWith('op_')),
    JSON.stringify(requests),
  );
});

test('storms of names that are forgotten and looked up again', { skip }, async (t) => {
  const { directory, start } = connect(t);
  const server = await start('first');
  server.tell('forget');
  const loop = (i: number) =>
    `for n in $(seq 60); do [ "$(head -c 5000 ${directory}/f${i} | tr -d '\\00${i}' | wc -c)" = 0 ] || exit 1; done`;
  const readers = Array.from({ length: 8 }, (_, i) => sh(loop(i)));
  for (const { status, err } of await Promise.all(readers)) assert.equal(status, 0, err);
  server.tell('statistics');
  const { requests } = await server.said('requests');
  t.diagnostic(`${requests!.lookup} lookups`);
  assert.ok(requests!.lookup > 100, JSON.stringify(requests));
});

/** What a reader does that waits for one page: it reads ahead in the background, or asks for the page itself. */
const WAYS = {
  'a read': (file: string) => ['head', '-c', '4096', file],
  'a page fault': (file: string) => [
    process.execPath,
    '-e',
    `const koffi = require(${JSON.stringify(fileURLToPath(import.meta.resolve('koffi')))});
     const libc = koffi.load('libc.so.6');
     const mmap = libc.func('void *mmap(void *a, size_t n, int p, int f, int fd, int64_t o)');
     const madvise = libc.func('int madvise(void *a, size_t n, int advice)');
     const address = mmap(null, 4096, 1, 1, require('node:fs').openSync('${file}'), 0);
     madvise(address, 4096, 1);
     new Uint8Array(koffi.view(address, 4096))[0];`,
  ],
};

for (const [name, way] of Object.entries(WAYS))
  test(`${name} that waits can be killed`, { skip }, async (t) => {
    const { directory, start } = connect(t);
    const server = await start('first');
    const [command, ...args] = way(join(directory, 'slow'));
    const reader = spawn(command, args, { stdio: 'ignore' });
    await server.said('waiting');
    await sleep(100);
    reader.kill('SIGKILL');
    // Nobody answers it: it ends by this, or never.
    await until(10_000, 'the reader does not end', async () => !isAlive(reader.pid!) || undefined);
    // The kernel tells of it only where the reader itself waits for the answer (fuse/dev.c, request_wait_answer).
    const expected = name === 'a read' ? 0 : 1;
    await until(3000, `${expected} interrupts`, async () => {
      server.tell('statistics');
      // It comes by another way than our question, and may come later.
      return (await server.said('interrupted')).interrupted === expected || undefined;
    });
    server.tell('release');
    const after = await sh(`head -c 10 ${directory}/f1 | wc -c`);
    assert.equal(after.out.toString().trim(), '10');
  });

test('what one process took is asked again of the next', { skip }, async (t) => {
  const { directory, start } = connect(t);
  const first = await start('first');
  const readers = Array.from({ length: 6 }, (_, i) =>
    sh(`dd if=${directory}/slow bs=4096 count=1 skip=${40 * i} 2>/dev/null | tr -d Z | wc -c`),
  );
  for (let i = 0; i < readers.length; i++) await first.said('waiting');
  const begun = performance.now();
  first.child.kill('SIGKILL');
  const second = await start('second');
  t.diagnostic(`served again after ${Math.round(performance.now() - begun)} ms`);
  for (let i = 0; i < readers.length; i++) await second.said('waiting');
  // Readahead may ask for more than the readers did.
  const releasing = setInterval(() => second.tell('release'), 50);
  // The process is killed when the test is over: nothing can be told to it then.
  const outcomes = await Promise.all(readers).finally(() => clearInterval(releasing));
  for (const { out } of outcomes) assert.equal(out.toString().trim(), '0');
});

test('a descriptor that is none ends the threads with an error', { skip }, async () => {
  const { createKernelDriver } = await import('../../src/fuse/kernel-driver.ts');
  const ended = new Promise<string | undefined>((resolve) => {
    const driver = createKernelDriver({ fuseFd: 9999, threads: 1, inherited: false, log: () => {}, onEnd: resolve });
    void driver.start({
      lookup: () => undefined,
      getattr: () => undefined,
      readdir: () => false,
      read: async () => [],
      reached() {},
    });
  });
  assert.match((await ended)!, /EBADF/);
});
