/** Every command against Debian's registry, filled by skopeo: results as JSON, exit statuses, and a program run in the image. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ImageInfo, MountInfo, PullResult, Status, VerifyResult } from '../../src/daemon/api.ts';
import { cannotMount, mountsBelow, run, testDaemon } from '../daemon.ts';
import { noDockerRegistry, startDockerRegistry } from '../docker-registry.ts';
import { APP_LAYOUT } from '../fixtures.ts';

const skip = cannotMount() || noDockerRegistry();

interface Failure {
  error: { code: string; message: string; hint?: string };
}

describe('the command line with docker-registry', { skip }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  const login = join(directory, 'config.json');
  let stop = () => {};
  let reference: string;
  let host: string;
  before(async () => {
    const registry = await startDockerRegistry({ after: (clean) => (stop = clean) }, directory, login);
    host = registry.host;
    reference = await registry.push(APP_LAYOUT, 'nydus', 'team/app');
  });
  after(() => {
    stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test('mount, run a program in it, and every other command', async (t) => {
    const daemon = await testDaemon(t, {
      toml: `[registry]\nplain_http = ["${host}"]\ncredentials = "${login}"\n`,
      start: false,
    });
    const good = async <T>(...args: string[]): Promise<T> => {
      const { status, json, err } = await daemon.nymph(...args);
      assert.equal(status, 0, `${args.join(' ')}: ${err}`);
      return json;
    };
    const bad = async (status: number, ...args: string[]): Promise<Failure['error']> => {
      const outcome = await daemon.nymph(...args);
      assert.equal(outcome.status, status, `${args.join(' ')}: ${outcome.err}`);
      return (outcome.json as Failure).error;
    };

    // Without a daemon.
    assert.equal((await good<{ lazy: boolean }>('run-check', reference)).lazy, true);
    const inspected = await good<{ format: string }>('inspect', reference);
    assert.equal(inspected.format, 'RAFS v6');
    for (const command of ['ls', 'status', 'prune']) assert.equal((await bad(7, command)).code, 'daemon');

    // This starts one.
    const place = join(daemon.directory, 'app');
    const mounted = await good<MountInfo>('mount', reference, place);
    assert.deepEqual(
      [mounted.directory, mounted.reference, mounted.kind, mounted.state],
      [place, reference, 'erofs', 'ok'],
    );
    const program = await run('chroot', [place, '/bin/app']);
    assert.equal(program.status, 0, program.err);
    const listed = await run('chroot', [place, '/bin/app', 'ls', '/']);
    assert.deepEqual(
      listed.out.toString().split(/\s+/).filter(Boolean).sort(),
      ['.', '..', ...readdirSync(place)].sort(),
    );

    const status = await good<Status>('status');
    assert.equal(status.mounts.length, 1);
    assert.ok(status.fetch.bytes[host] > 0);
    const ls = await good<{ mounts: MountInfo[]; images: ImageInfo[] }>('ls');
    assert.deepEqual(
      ls.mounts.map((mount) => mount.directory),
      [place],
    );
    assert.ok(ls.images[0].ready > 0 && ls.images[0].ready < ls.images[0].size, 'only what was read is here');
    assert.equal((await good<ImageInfo>('status', reference)).digest, mounted.digest);

    const part = await good<VerifyResult>('verify', '--cached', place);
    assert.ok(part.absent > 0 && part.bad.length === 0);
    const pulled = await good<PullResult>('pull', reference);
    assert.equal(pulled.image.ready, pulled.image.size);
    assert.equal((await good<PullResult>('pull', reference)).fetched, 0);
    const whole = await good<VerifyResult>('verify', reference);
    assert.deepEqual([whole.verified, whole.absent, whole.bad], [whole.chunks, 0, []]);

    assert.deepEqual((await good<{ blobs: string[] }>('prune', '--all')).blobs, [], 'what is mounted stays');
    await good('umount', place);
    assert.deepEqual(mountsBelow(place), []);
    const pruned = await good<{ blobs: string[]; images: string[]; freed: number }>('prune', '--all');
    assert.ok(pruned.blobs.length === 2 && pruned.images.length === 1 && pruned.freed > 0);
    assert.deepEqual((await good<{ images: ImageInfo[] }>('ls')).images, []);

    assert.equal((await bad(3, 'mount', `${host}/team/app:none`, join(daemon.directory, 'none'))).code, 'not-found');
    assert.ok(!existsSync(join(daemon.directory, 'none')));
    assert.equal((await bad(3, 'umount', place)).code, 'not-found');
    assert.equal((await bad(3, 'status', reference)).code, 'not-found');
    assert.equal((await bad(2, 'mount', 'registry.test/app:', place)).code, 'usage');
    await good('daemon', '--stop');
  });

  test('a damaged cache is found and repaired by verify', async (t) => {
    const daemon = await testDaemon(t, { toml: `[registry]\nplain_http = ["${host}"]\ncredentials = "${login}"\n` });
    await daemon.client.pull({ reference });
    await daemon.stop();
    const blobs = join(daemon.root, 'blobs');
    const data = readdirSync(blobs).map((key) => join(blobs, key, 'data'));
    for (const path of data) {
      const size = Number((await run('stat', ['-c', '%s', path])).out);
      truncateSync(path, size >> 1);
      truncateSync(path, size);
    }
    await daemon.start();
    const cached = (await daemon.nymph('verify', '--cached', reference)).json as VerifyResult;
    assert.ok(cached.repaired > 0, 'half of each blob was zeros');
    const again = (await daemon.nymph('verify', reference)).json as VerifyResult;
    assert.deepEqual([again.repaired, again.bad, again.verified], [0, [], again.chunks]);
  });

  test('without the login: denied, with a hint', async (t) => {
    const daemon = await testDaemon(t, {
      toml: `[registry]\nplain_http = ["${host}"]\ncredentials = "${join(directory, 'none.json')}"\n`,
    });
    const place = join(daemon.directory, 'app');
    for (const args of [
      ['mount', reference, place],
      ['pull', reference],
      ['inspect', reference],
      ['run-check', reference],
    ]) {
      const { status, json } = await daemon.nymph(...args);
      assert.equal(status, 4, args[0]);
      const { error } = json as Failure;
      assert.equal(error.code, 'denied');
      assert.match(error.hint!, /log in/i);
    }
    assert.deepEqual(mountsBelow(place), []);
  });
});
