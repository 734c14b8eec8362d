import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ImageActivity } from '../../src/daemon/api.ts';
import { type ErrorCode, NymphError } from '../../src/errors.ts';
import { EXIT_OF_ERROR } from '../../src/exit-status.ts';
import { IMAGE, MOUNT, nymph, STATUS, scratch, serve } from './cli-daemon.ts';

test('ls shows mounts, and images that are mounted nowhere', async (t) => {
  const loose = {
    ...IMAGE,
    reference: 'registry.example/idle:1',
    digest: `sha256:${'ef'.repeat(32)}`,
    ready: IMAGE.size,
  };
  const address = await serve(t, {
    calls: { 'GET /v1/mounts': () => [MOUNT], 'GET /v1/images': () => [IMAGE, loose] },
  });
  const human = await nymph(['ls', '--address', address]);
  assert.equal(human.err, '');
  assert.deepEqual(human.out.split('\n'), [
    'REFERENCE                   DIRECTORY  KIND   READY   SIZE  STATE  DIGEST',
    'registry.example/app:nydus  /mnt/app   erofs    33%  3 MiB  ok     abababababab',
    'registry.example/idle:1     -          -       100%  3 MiB  -      efefefefefef',
    '',
  ]);
  const json = await nymph(['--json', 'ls', '--address', address]);
  assert.deepEqual(JSON.parse(json.out), { mounts: [MOUNT], images: [IMAGE, loose] });
});

test('what a registry said cannot drive the terminal', async (t) => {
  const address = await serve(t, {
    calls: {
      'GET /v1/mounts': () => [{ ...MOUNT, state: 'bad \x1b[2J\u202e' }],
      'GET /v1/images': () => [],
    },
  });
  const { out } = await nymph(['ls', '--address', address]);
  assert.match(out, /bad \ufffd\[2J\ufffd/);
  assert.ok(!out.includes('\x1b'));
});

test('status tells of the daemon', async (t) => {
  const address = await serve(t, { calls: { 'GET /v1/status': () => STATUS } });
  const { out, status } = await nymph(['status', '--address', address]);
  assert.equal(status, 0);
  assert.match(out, /^ {2}not ready: +metrics are not served on :9470$/m);
  for (const line of [
    '  process:   5000002, supervisor 5000001',
    '  up:        2h00m',
    '  failing: /mnt/bad: the registry refuses',
    '  images:  1 image, 1 MiB of 3 MiB here',
    '  used:  5 MiB of 1 GiB',
    '  waiting time:   median 4 ms, 99% 80 ms, longest 200 ms',
    '  fetched:          1 MiB from registry.example',
    '  registry.example: 1 MiB in 7 requests; first byte after 11 ms, 95% 30 ms; 1 error (1 timeout); asked because another was late: 2 times first, 1 not',
    '  requests:         7, 1 tried again',
  ])
    assert.ok(out.split('\n').includes(line), `${line}\nis not in\n${out}`);
  assert.deepEqual(JSON.parse((await nymph(['status', '--json', '--address', address])).out), STATUS);
});

test('status tells how much came from peers', async (t) => {
  const own = STATUS.fetch.sources['registry.example'];
  const from = { local: 0, peer: 2 ** 21, seed: 2 ** 20, origin: 0, unknown: 0 };
  const sources = { 'registry.example': own, dragonfly: { ...own, bytes: 3 * 2 ** 20, from } };
  const address = await serve(t, {
    calls: { 'GET /v1/status': () => ({ ...STATUS, fetch: { ...STATUS.fetch, sources } }) },
  });
  const { out } = await nymph(['status', '--address', address]);
  assert.match(
    out,
    /fetched: +2 MiB from other peers \(50%\), 1 MiB from a seed \(25%\), 1 MiB from the origin \(25%\)\n/,
  );
});

test('status of an image asks for it by its full name or digest', async (t) => {
  const asked: string[] = [];
  const address = await serve(t, {
    calls: {
      'GET /v1/activity/': ({ rest }): ImageActivity => {
        asked.push(rest);
        const why = 'mounted by EROFS; what is missing comes when it is read';
        return {
          reference: IMAGE.reference,
          laziness: { lazy: true, why },
          image: IMAGE,
          faults: 5,
          failed: 1,
          bytes: { 'registry.example': 3 * 2 ** 20, dragonfly: 2 ** 20 },
          slowest: [
            { blob: 'cd'.repeat(32), offset: 4096, path: '/usr/bin/app', milliseconds: 250, at: 1_700_000_000_000 },
            { blob: 'cd'.repeat(32), offset: 8192, milliseconds: 90, at: 1_700_000_000_000 },
          ],
        };
      },
    },
  });
  const { out } = await nymph(['status', 'app', '--address', address]);
  assert.match(out, /^ready: +33%: 1 MiB of 3 MiB$/m);
  assert.match(out, /^lazy: +yes: mounted by EROFS; what is missing comes when it is read$/m);
  assert.match(out, /^fetched: +3 MiB from registry.example \(75%\), 1 MiB from dragonfly \(25%\)$/m);
  assert.match(out, /^reads that waited: +5, 1 failed$/m);
  assert.match(out, /^ {2}250 ms: +\/usr\/bin\/app, 2023-11-14 22:13:20Z$/m);
  assert.match(out, /^ {2}90 ms: +blob cdcdcdcdcdcd at 8,192, /m);
  await nymph(['status', IMAGE.digest, '--address', address]);
  assert.deepEqual(asked, ['docker.io/library/app:latest', IMAGE.digest]);
});

test('status of an ordinary image says why it is not lazy', async (t) => {
  const why = '2 of 2 layers are unpacked: it is no Nydus image';
  const address = await serve(t, {
    calls: {
      'GET /v1/activity/': ({ rest }): ImageActivity => ({
        ...{ reference: rest, laziness: { lazy: false, why }, faults: 0, failed: 0, bytes: {}, slowest: [] },
      }),
    },
  });
  const { out } = await nymph(['status', 'app', '--address', address]);
  assert.equal(out, `reference: docker.io/library/app:latest\nlazy:      no: ${why}\n`);
});

test('pull prints one result; progress does not reach standard output', async (t) => {
  const result = { image: { ...IMAGE, ready: IMAGE.size }, fetched: 2 ** 20, milliseconds: 4200 };
  const bodies: unknown[] = [];
  const address = await serve(t, {
    works: {
      'POST /v1/pull': async (body, progress) => {
        bodies.push(body);
        for (let done = 0; done <= 10; done++) progress({ stage: 'fetching', done, total: 10 });
        return result;
      },
    },
  });
  const human = await nymph(['pull', IMAGE.reference, '--platform', 'linux/aarch64', '--address', address]);
  const text = `pulled ${IMAGE.reference}@${IMAGE.digest}: 3 MiB in the cache, 1 MiB fetched in 4.2 s\n`;
  assert.deepEqual(human, { status: 0, out: text, err: '' });
  const json = await nymph(['pull', IMAGE.reference, '--json', '--address', address]);
  assert.deepEqual(JSON.parse(json.out), result);
  assert.deepEqual(bodies, [{ reference: IMAGE.reference, platform: 'linux/arm64' }, { reference: IMAGE.reference }]);
});

test('every error has its exit status, text and document', async (t) => {
  let code: ErrorCode = 'internal';
  const address = await serve(t, {
    calls: {
      'GET /v1/activity/': () => {
        throw new NymphError(code, `no ${code} today`, { hint: 'Come back\ntomorrow.' });
      },
    },
    works: {
      'POST /v1/pull': () => Promise.reject(new NymphError(code, `no ${code} today`, { hint: 'Come back\ntomorrow.' })),
    },
  });
  for (code of Object.keys(EXIT_OF_ERROR) as ErrorCode[]) {
    const call = await nymph(['status', 'app', '--address', address]);
    const expected = { status: EXIT_OF_ERROR[code], err: `nymph: no ${code} today\n  Come back\n  tomorrow.\n` };
    assert.deepEqual(call, { ...expected, out: '' });
    const work = await nymph(['pull', 'app', '--json', '--address', address]);
    const document = `${JSON.stringify({ error: { code, message: `no ${code} today`, hint: 'Come back\ntomorrow.' } })}\n`;
    assert.deepEqual(work, { ...expected, out: document });
  }
});

test('verify: wrong chunks are listed and mean exit status 5', async (t) => {
  const result = {
    chunks: 2000,
    verified: 1990,
    absent: 5,
    repaired: 3,
    bad: ['blob x:4096', 'blob x:8192'],
    bytes: 2 ** 30,
    milliseconds: 5000,
  };
  const bodies: unknown[] = [];
  const address = await serve(t, {
    works: {
      'POST /v1/verify': async (body) => {
        bodies.push(body);
        return bodies.length > 1 ? { ...result, bad: [], absent: 0, repaired: 0, verified: 2000 } : result;
      },
    },
  });
  const bad = await nymph(['verify', 'app', '--address', address]);
  assert.equal(bad.status, 5);
  assert.match(
    bad.out,
    /^1,990 of 2,000 chunks right \(1 GiB checked\); 3 were wrong and are repaired; 5 not in the cache; 2 wrong/,
  );
  assert.match(bad.out, /^ {2}wrong: blob x:8192$/m);
  const directory = await scratch(t);
  await symlink(directory, `${directory}/link`);
  const good = await nymph(['verify', './link/x', '--cached', '--address', address], { cwd: directory });
  assert.deepEqual(good, { status: 0, out: '2,000 of 2,000 chunks right (1 GiB checked); 5 s\n', err: '' });
  assert.deepEqual(bodies, [
    { target: 'docker.io/library/app:latest', cachedOnly: false },
    { target: `${directory}/x`, cachedOnly: true },
  ]);
});

test('prune: all, a size, or the quota', async (t) => {
  const bodies: unknown[] = [];
  const address = await serve(t, {
    works: {
      'POST /v1/prune': async (body) => {
        bodies.push(body);
        return { freed: 2 ** 31, blobs: ['a', 'b'], images: ['c'] };
      },
    },
  });
  assert.equal((await nymph(['prune', '--address', address])).out, 'freed 2 GiB: removed 2 blobs and 1 image\n');
  await nymph(['prune', '--all', '--address', address]);
  await nymph(['prune', '--to', '10GiB', '--address', address]);
  await nymph(['prune', '--all', '--force', '--address', address]);
  assert.deepEqual(bodies, [{}, { target: 0 }, { target: 10 * 2 ** 30 }, { target: 0, force: true }]);
});

test('pin and unpin name an image in full, and say what it is then', async (t) => {
  const asked: string[] = [];
  const pin =
    (pinned: boolean) =>
    async ({ rest }: { rest: string }) => {
      asked.push(`${pinned} ${rest}`);
      return { ...IMAGE, pinned };
    };
  const address = await serve(t, { calls: { 'PUT /v1/pins/': pin(true), 'DELETE /v1/pins/': pin(false) } });
  const outcome = await nymph(['pin', 'registry.example/app', '--address', address]);
  assert.equal(outcome.out, 'registry.example/app:nydus is pinned\n', outcome.err);
  assert.match((await nymph(['unpin', IMAGE.digest, '--address', address])).out, /is not pinned/);
  assert.deepEqual(asked, ['true registry.example/app:latest', `false ${IMAGE.digest}`]);
});

test('mount makes the directory and names everything absolutely', async (t) => {
  const bodies: { directory: string }[] = [];
  const address = await serve(t, {
    calls: { 'GET /v1/health': () => STATUS.health },
    works: {
      'POST /v1/mounts': async (body) => {
        bodies.push(body as { directory: string });
        return { ...MOUNT, directory: bodies[0].directory };
      },
    },
  });
  const directory = await scratch(t);
  await symlink(directory, `${directory}/link`);
  const args = ['mount', 'oci:images:app', 'link/a/b', '--prefetch', 'all', '--address', address];
  const { status, out } = await nymph(args, { cwd: directory });
  assert.deepEqual({ status, out }, { status: 0, out: `mounted ${MOUNT.reference} on ${directory}/a/b\n` });
  assert.ok((await stat(`${directory}/a/b`)).isDirectory());
  assert.deepEqual(bodies, [
    { reference: `oci:${directory}/images:app`, directory: `${directory}/a/b`, options: { prefetch: 'all' } },
  ]);
});

test('a mount that fails leaves no directories of its own', async (t) => {
  const address = await serve(t, {
    calls: { 'GET /v1/health': () => STATUS.health },
    works: { 'POST /v1/mounts': () => Promise.reject(new NymphError('not-found', 'no such image')) },
  });
  const directory = await scratch(t);
  await mkdir(join(directory, 'kept'));
  assert.equal((await nymph(['mount', 'app', 'kept/a/b', '--address', address], { cwd: directory })).status, 3);
  await assert.rejects(stat(join(directory, 'kept/a')), { code: 'ENOENT' });
  assert.equal((await nymph(['mount', 'app', 'kept', '--address', address], { cwd: directory })).status, 3);
  assert.ok((await stat(join(directory, 'kept'))).isDirectory());
  await writeFile(join(directory, 'file'), '');
  const file = await nymph(['mount', 'app', 'file', '--address', address], { cwd: directory });
  assert.match(file.err, /^nymph: cannot make the directory .*\/file: it is a file\n/);
});

test('mount says why no daemon can be started', async (t) => {
  const directory = await scratch(t);
  await writeFile(join(directory, 'file'), '');
  const args = ['mount', 'app', 'm', '--root', './file/root', '--address', './control.sock'];
  const { status, err } = await nymph(args, { cwd: directory });
  assert.equal(status, 7);
  assert.match(err, /^nymph: cannot start the daemon with root .*\/file\/root: ENOTDIR\n/);
  await assert.rejects(stat(join(directory, 'm')), { code: 'ENOENT' });
});

test('umount names the real directory', async (t) => {
  const queries: string[] = [];
  const address = await serve(t, {
    calls: {
      'DELETE /v1/mounts': ({ query }) => {
        queries.push(query.toString());
        return {};
      },
    },
  });
  const directory = await scratch(t);
  await mkdir(`${directory}/real & true`);
  await symlink('real & true', `${directory}/link`);
  const { out } = await nymph(['umount', 'link', '--address', address], { cwd: directory });
  assert.equal(out, `unmounted ${directory}/real & true\n`);
  await nymph(['unmount', 'gone', '--force', '--address', address], { cwd: directory });
  assert.deepEqual(
    queries.map((query) => Object.fromEntries(new URLSearchParams(query))),
    [{ directory: `${directory}/real & true` }, { directory: `${directory}/gone`, force: 'true' }],
  );
});

test('Ctrl-C during a pull hangs up and ends with 130', { timeout: 20_000 }, async (t) => {
  const begun = Promise.withResolvers<void>();
  const hungUp = Promise.withResolvers<void>();
  const address = await serve(t, {
    works: {
      'POST /v1/pull': (_, progress, signal) => {
        progress({ stage: 'fetching', done: 1, total: 100 });
        begun.resolve();
        return new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            hungUp.resolve();
            reject(new NymphError('cancelled', 'the client hung up'));
          });
        });
      },
    },
  });
  const running = nymph(['pull', 'app', '--json', '--address', address], {
    started: (child) => void begun.promise.then(() => setTimeout(() => child.kill('SIGINT'), 50)),
  });
  assert.deepEqual(await running, {
    status: 130,
    out: `${JSON.stringify({ error: { code: 'cancelled', message: 'interrupted' } })}\n`,
    err: 'nymph: interrupted\n',
  });
  await hungUp.promise;
});

test('a daemon that dies is named', async (t) => {
  const address = await serve(t, {});
  const gone = `${address}.gone`;
  const dying = createServer((request) => request.socket.destroy());
  await new Promise<void>((resolve) => dying.listen(gone, resolve));
  t.after(() => dying.close());
  const { status, err } = await nymph(['pull', 'app', '--address', gone]);
  assert.equal(status, 7);
  assert.match(err, /^nymph: the daemon at .* ended before it answered POST \/v1\/pull\n {2}Look at its log/);
});

test('mount shows the log of a daemon that dies', async (t) => {
  const directory = await scratch(t);
  await mkdir(join(directory, 'root'));
  await writeFile(join(directory, 'root/blobs'), 'a file where a directory must be');
  await writeFile(join(directory, 'root/daemon.log'), 'an older line\n');
  const args = ['mount', 'app', 'm', '--root', 'root', '--address', 'control.sock'];
  const { status, err } = await nymph(args, { cwd: directory });
  assert.equal(status, 7);
  assert.match(
    err,
    /^nymph: the daemon ended at once: exit status \d+\n {2}The end of .*\/root\/daemon\.log:\n {2}\s*\S/,
  );
  assert.doesNotMatch(err, /an older line/);
  await assert.rejects(stat(join(directory, 'm')), { code: 'ENOENT' });
});

test('daemon --stop returns when the processes are gone', async (t) => {
  const daemon = spawn('sleep', ['60']);
  t.after(() => daemon.kill());
  let ended = 0;
  daemon.on('exit', () => (ended = performance.now()));
  const address = await serve(t, {
    calls: {
      'GET /v1/health': () => ({ ...STATUS.health, pid: daemon.pid }),
      'POST /v1/stop': () => {
        setTimeout(() => daemon.kill(), 300);
        return {};
      },
    },
  });
  const { out } = await nymph(['daemon', '--stop', '--address', address]);
  assert.equal(out, `stopped the daemon (process ${daemon.pid})\n`);
  assert.ok(ended > 0 && ended < performance.now());
  const absent = await nymph(['daemon', '--stop', '--address', `${address}.none`]);
  assert.equal(absent.status, 7);
});

test('the reader of a pipe may leave early', async (t) => {
  const many = Array.from({ length: 5000 }, (_, i) => ({ ...MOUNT, directory: `/mnt/${i}` }));
  const address = await serve(t, { calls: { 'GET /v1/mounts': () => many, 'GET /v1/images': () => [IMAGE] } });
  const { status, err } = await nymph(['ls', '--address', address], {
    started: (child) => child.stdout?.once('data', () => child.stdout?.destroy()),
  });
  assert.deepEqual({ status, err }, { status: 0, err: '' });
});
