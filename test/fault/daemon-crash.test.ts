/** `kill -9` of the daemon, its supervisor, or both, in the midst of everything that it does. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import type { NymphError } from '../../src/errors.ts';
import {
  cannotMount,
  isAlive,
  mountsBelow,
  NYMPH,
  type Outcome,
  processesWith,
  run,
  type TestDaemon,
  testDaemon,
  until,
} from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startReaders } from '../readers.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { makeBigFile, makeManyFiles } from '../tree.ts';

describe('kill -9', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  const images: MadeImage[] = [];
  let registry: TestRegistry;
  before(async () => {
    for (const name of ['one', 'two', 'three']) {
      const seed = images.length + 1;
      const fill = (tree: string) => {
        mkdirSync(join(tree, 'many'));
        makeManyFiles(join(tree, 'many'), { count: 200, seed });
        makeBigFile(join(tree, 'big'), 24 << 20, seed);
      };
      images.push(await makeImage(directory, name, fill));
    }
    registry = await startRegistry({ layouts: { made: join(directory, 'layout') } });
  });
  after(async () => {
    await registry.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const start = (t: { after(clean: () => Promise<void>): void }) => {
    registry.faults.bandwidth = undefined;
    registry.faults.latency = undefined;
    return testDaemon(t, { toml: `[registry]\nplain_http = ["${registry.host}"]\n` });
  };
  const reference = (image: MadeImage) => `${registry.host}/made:${image.tag}`;
  const mount = (daemon: TestDaemon, image: MadeImage, place: string) =>
    daemon.client.mount({ reference: reference(image), directory: place, options: { prefetch: 'none' } });

  test('in the midst of a mount: nothing or a whole mount is there, and the next one succeeds', async (t) => {
    let daemon!: TestDaemon;
    let cut = 0;
    for (let round = 0; round < 12; round++) {
      // The supervisor waits longer from crash to crash.
      if (round % 4 === 0) daemon = await start(t);
      registry.faults.latency = 20;
      const image = images[round % 3];
      const place = daemon.place(`m${round}`);
      const { pid } = await daemon.client.health();
      const mounting = mount(daemon, image, place).then(
        () => 'mounted',
        (error: NymphError) => error.code,
      );
      await sleep(round * 12);
      await daemon.kill('daemon');
      const outcome = await mounting;
      if (outcome !== 'mounted') cut++;
      await daemon.another(pid);
      const listed = (await daemon.client.mounts()).filter((entry) => entry.directory === place);
      assert.equal(listed.length, mountsBelow(place).length, `the kernel and the daemon agree (${outcome})`);
      if (outcome === 'mounted')
        assert.deepEqual(
          listed.map((entry) => entry.state),
          ['ok'],
        );
      // The kill may fall between the last word on a mount and the answer: then it is whole, and asking again is right.
      else
        assert.ok(
          listed.every((entry) => entry.state === 'ok'),
          'nothing, or a whole mount',
        );
      await mount(daemon, image, place);
      await assertEqual(image, place);
      if (round % 2 === 0) await daemon.client.unmount(place, false);
      if (round % 4 === 0) await daemon.client.prune({ target: 0 });
    }
    t.diagnostic(`${cut} of 12 mounts were cut short`);
    assert.ok(cut > 2, 'mounts were hit');
  });

  test('a mount that was being made is taken away by the next daemon', async (t) => {
    const daemon = await start(t);
    const place = daemon.place('m');
    await mount(daemon, images[0], place);
    await daemon.kill('supervisor', 'daemon');
    // What a daemon leaves that dies between mount(2) and its last word on it.
    const catalogue = new Database(join(daemon.root, 'catalogue.db'));
    const row = catalogue.prepare('SELECT mount FROM mounts').get() as { mount: string };
    catalogue.prepare('UPDATE mounts SET mount = ?').run(JSON.stringify({ ...JSON.parse(row.mount), pending: true }));
    catalogue.close();
    await daemon.start();
    assert.deepEqual(mountsBelow(place), []);
    assert.deepEqual(await daemon.client.mounts(), []);
  });

  test('in the midst of a pull: what was fetched is not fetched again', async (t) => {
    const daemon = await start(t);
    registry.faults.bandwidth = 2 << 20;
    registry.stats.blobBytes = 0;
    for (let round = 0; round < 3; round++) {
      const { pid } = await daemon.client.health();
      const pulling = daemon.client.pull({ reference: reference(images[0]) }).then(
        () => 'pulled',
        (error: NymphError) => error.code,
      );
      await sleep(400);
      await daemon.kill('daemon');
      assert.equal(await pulling, 'daemon');
      await daemon.another(pid);
    }
    registry.faults.bandwidth = undefined;
    const pulled = await daemon.client.pull({ reference: reference(images[0]) });
    assert.equal(pulled.image.ready, pulled.image.size);
    const verified = await daemon.client.verify({ target: reference(images[0]), cachedOnly: true });
    assert.deepEqual([verified.absent, verified.repaired, verified.bad], [0, 0, []]);
    const extra = registry.stats.blobBytes / images[0].stored;
    t.diagnostic(`${extra.toFixed(2)} times the image was sent, for 3 kills`);
    assert.ok(extra < 2, `${extra} times the image`);
  });

  test('in the midst of prune and umount', async (t) => {
    const daemon = await start(t);
    for (let round = 0; round < 6; round++) {
      const places = images.map((image, i) => [image, daemon.place(`m${i}`)] as const);
      for (const image of images) await daemon.client.pull({ reference: reference(image) });
      const [image, place] = places[round % 3];
      if ((await daemon.client.mounts()).every((entry) => entry.directory !== place)) await mount(daemon, image, place);
      const { pid } = await daemon.client.health();
      const ending = round % 2 === 0 ? daemon.client.prune({ target: 0 }) : daemon.client.unmount(place, false);
      ending.catch(() => {});
      await sleep(round * 2);
      await daemon.kill('daemon');
      await daemon.another(pid);
      const listed = (await daemon.client.mounts()).map((entry) => entry.directory).sort();
      const there = mountsBelow(daemon.directory).filter((entry) => entry.type === 'erofs');
      assert.deepEqual(there.map((entry) => entry.directory).sort(), listed);
      if (!listed.includes(place)) await mount(daemon, image, place);
      await assertEqual(image, place);
    }
  });

  test('of the supervisor, then of the daemon, again and again: reads go on, and the daemon can be stopped', async (t) => {
    const daemon = await start(t);
    const place = daemon.place('m');
    await mount(daemon, images[1], place);
    registry.faults.bandwidth = 4 << 20;
    const readers = startReaders(t, images[1].truth, place, { readers: 4 });
    const first = await daemon.client.health();
    for (let round = 0; round < 4; round++) {
      const before = await daemon.supervised();
      await daemon.kill('supervisor');
      // In the first rounds the daemon dies while the next supervisor starts.
      const two = async () => {
        // Readers have the directory among their arguments, too.
        const pids = processesWith(join(daemon.directory, 'config.toml'));
        if (pids.length === 2) return true;
        throw new Error(pids.map((pid) => `${pid}: ${readFileSync(`/proc/${pid}/cmdline`, 'latin1')}`).join('\n'));
      };
      if (round < 2) await until(30_000, 'no other supervisor', two);
      else await daemon.supervised();
      const health = await daemon.client.health();
      assert.equal(health.pid, before.pid, 'the daemon serves on');
      await daemon.kill('daemon');
      const next = await daemon.another(health.pid);
      assert.notEqual(next.supervisor, before.supervisor);
    }
    const seen = await readers.stop();
    assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    // How many depends on how busy the machine is: the registry is slow, and readers wait for each daemon.
    assert.ok(seen.reads > 0);
    registry.faults.bandwidth = undefined;
    await assertEqual(images[1], place);
    // A mount needs the supervisor: it looks up names.
    await mount(daemon, images[2], daemon.place('n'));
    await assertEqual(images[2], daemon.place('n'));
    const last = await daemon.supervised();
    assert.deepEqual(processesWith(daemon.directory).sort(), [last.pid, last.supervisor!].sort(), 'no others');
    assert.ok(!isAlive(first.pid) && !isAlive(first.supervisor!));
    await daemon.stop();
    assert.deepEqual(processesWith(daemon.directory), []);
  });

  for (const who of ['daemon', 'supervisor'] as const)
    test(`a supervisor that the daemon started ends with it at a SIGTERM to the ${who}`, async (t) => {
      const daemon = await start(t);
      await daemon.kill('supervisor');
      const { pid, supervisor } = await daemon.supervised();
      process.kill(who === 'daemon' ? pid : supervisor!, 'SIGTERM');
      await until(20_000, 'they do not end', async () => processesWith(daemon.directory).length === 0 || undefined);
      assert.deepEqual(mountsBelow(daemon.directory), []);
    });

  test('of the supervisor: who starts it again, as a service manager does, has a process that stands for the daemon', async (t) => {
    const daemon = await start(t);
    const place = daemon.place('m');
    await mount(daemon, images[0], place);
    const { pid, waiting, again } = await startedAgain(daemon);
    await daemon.kill('supervisor', 'daemon');
    const next = await daemon.another(pid);
    assert.equal(next.supervisor, waiting, 'it starts the next one');
    await assertEqual(images[0], place);
    await daemon.stop();
    assert.equal((await again).status, 0);
  });

  test('of the supervisor: to stop the process that stands for the daemon stops the daemon', async (t) => {
    const daemon = await start(t);
    const { waiting, again } = await startedAgain(daemon);
    process.kill(waiting, 'SIGTERM');
    assert.equal((await again).status, 0);
    assert.deepEqual(processesWith(daemon.directory), []);
  });

  test('of the daemon: the next one gets the root, though another holds it for a moment', async (t) => {
    const daemon = await start(t);
    const place = daemon.place('m');
    await mount(daemon, images[0], place);
    const { pid } = await daemon.client.health();
    const other = run('flock', [join(daemon.root, 'lock'), 'sleep', '4']);
    await sleep(300);
    await daemon.kill('daemon');
    await daemon.another(pid);
    await other;
    assert.deepEqual(daemon.logged('cannot start'), []);
    await assertEqual(images[0], place);
  });

  test('of one supervisor after the other: there are never two, and the pauses grow', async (t) => {
    const daemon = await start(t);
    const { pid } = await daemon.client.health();
    for (let round = 0; round < 6; round++) {
      await daemon.supervised();
      await daemon.kill('supervisor');
      assert.ok(processesWith(daemon.directory).length <= 2);
    }
    await daemon.supervised();
    assert.equal((await daemon.client.health()).pid, pid);
  });

  test('of each supervisor as soon as it is there: they come ever more slowly', async (t) => {
    const daemon = await start(t);
    await daemon.kill('supervisor');
    for (const end = Date.now() + 4_000; Date.now() < end; await sleep(5))
      for (const pid of processesWith('supervisor-main'))
        if (processesWith(daemon.directory).includes(pid)) process.kill(pid, 'SIGKILL');
    const starts = daemon.logged('the supervisor is gone').length;
    t.diagnostic(`${starts} supervisors in 4 s`);
    assert.ok(starts >= 2 && starts <= 10, `${starts} supervisors in 4 s`);
    await daemon.supervised();
  });

  test('of the daemon, and of the supervisor while the next daemon waits to begin: the connection is kept', async (t) => {
    const daemon = await start(t);
    const place = daemon.place('m');
    await mount(daemon, images[0], place);
    const readers = startReaders(t, images[0].truth, place, { readers: 2 });
    // Five deaths in a row: the sixth daemon waits for 1.6 s.
    let { pid } = await daemon.client.health();
    for (let round = 0; round < 5; round++) {
      const { supervisor } = await daemon.client.health();
      await daemon.kill('daemon');
      if (round < 4) pid = (await daemon.another(pid)).pid;
      else {
        await sleep(100);
        process.kill(supervisor!, 'SIGKILL');
      }
    }
    pid = (await daemon.supervised()).pid;
    await daemon.kill('daemon');
    await daemon.another(pid);
    const seen = await readers.stop();
    assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    await assertEqual(images[0], place);
  });

  test('of both: reads fail and never lie; the next daemon mounts again at the same places', async (t) => {
    const daemon = await start(t);
    const places = images.map((image) => [image, daemon.place(image.tag)] as const);
    for (const [image, place] of places) await mount(daemon, image, place);
    await assertEqual(...places[0]);
    const readers = places.map(([image, place]) => startReaders(t, image.truth, place, { readers: 3 }));
    await sleep(800);
    await daemon.kill('supervisor', 'daemon');
    await sleep(500);
    registry.stats.blobBytes = 0;
    await daemon.start();
    await sleep(800);
    for (const reader of readers) {
      const seen = await reader.stop();
      assert.deepEqual(seen.wrong, []);
      t.diagnostic(`${seen.reads} reads, ${JSON.stringify(seen.errors)}`);
    }
    const { mounts } = await daemon.client.status();
    assert.deepEqual(
      mounts.map((entry) => [entry.directory, entry.state]).sort(),
      places.map(([, place]) => [place, 'ok']).sort(),
    );
    for (const [image, place] of places) await assertEqual(image, place);
    for (const [, place] of places) assert.equal(mountsBelow(place).length, 1);
  });

  test('the cache survives: almost nothing is fetched again', async (t) => {
    const daemon = await start(t);
    const place = daemon.place('m');
    await mount(daemon, images[2], place);
    await assertEqual(images[2], place);
    const { pid } = await daemon.client.health();
    registry.stats.blobBytes = 0;
    // What arrived in the last moment is fetched again: readiness is written 75 ms later, on a busy disk later still.
    await sleep(1_000);
    await daemon.kill('daemon');
    await daemon.another(pid);
    await daemon.client.unmount(place, false);
    await mount(daemon, images[2], place);
    await assertEqual(images[2], place);
    t.diagnostic(`${registry.stats.blobBytes} of ${images[2].stored} bytes were fetched again`);
    assert.ok(registry.stats.blobBytes < images[2].stored / 20, `${registry.stats.blobBytes} bytes were fetched again`);
  });
});

/** Kills the supervisor, and starts `nymph daemon` in the foreground once more. */
async function startedAgain(daemon: TestDaemon): Promise<{ pid: number; waiting: number; again: Promise<Outcome> }> {
  await daemon.kill('supervisor');
  const { pid, supervisor } = await daemon.supervised();
  const again = run(NYMPH, ['--config', join(daemon.directory, 'config.toml'), 'daemon']);
  const others = () => processesWith(daemon.directory).filter((one) => one !== pid && one !== supervisor);
  const waiting = await until(30_000, 'nobody waits', async () => others()[0]);
  // It has come to its wait, and would have ended otherwise.
  await sleep(2_000);
  assert.deepEqual([others(), (await daemon.client.health()).pid], [[waiting], pid]);
  return { pid, waiting, again };
}

async function assertEqual(image: MadeImage, place: string): Promise<void> {
  const { status, out, err } = await run('diff', ['-r', '--no-dereference', image.truth, place]);
  assert.equal(status, 0, `${out.toString().slice(0, 500)}${err.slice(0, 500)}`);
}
