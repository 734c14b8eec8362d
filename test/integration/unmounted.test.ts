/** Images whose mount is gone while something above it still reads them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cannotMount, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { makeBigFile, makeManyFiles } from '../tree.ts';

describe('a mount that goes while it is in use', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  let reference: string;
  before(async () => {
    image = await makeImage(directory, 'made', (tree) => {
      makeManyFiles(tree, { count: 20 });
      makeBigFile(join(tree, 'big'), 4 << 20);
    });
    reference = `oci:${image.layout}:made`;
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  /** An overlay over the mount of a lazy image, as a container has it. */
  async function overlay(daemon: TestDaemon): Promise<string> {
    const lower = daemon.place('lower');
    await daemon.client.mount({ reference, directory: lower, options: { prefetch: 'none' } });
    const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => daemon.place(name));
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    assert.equal((await run('mount', ['-t', 'overlay', 'overlay', '-o', options, merged])).status, 0);
    return merged;
  }

  const openBlobs = async (daemon: TestDaemon) => (await daemon.client.status()).cache.openBlobs;

  async function released(daemon: TestDaemon): Promise<void> {
    await until(20_000, 'the blobs are still open', async () => ((await openBlobs(daemon)) === 0 ? true : undefined));
  }

  for (const how of ['umount', 'umount by hand', 'umount, then kill -9 of the daemon'] as const)
    test(`an overlay reads on after ${how}, and its end frees the image`, async (t) => {
      const daemon = await testDaemon(t);
      const merged = await overlay(daemon);
      const lower = join(daemon.directory, 'lower');
      if (how === 'umount by hand') assert.equal((await run('umount', [lower])).status, 0);
      await daemon.client.unmount(lower, false);
      if (how.includes('kill')) {
        const { pid } = await daemon.client.health();
        await daemon.kill('daemon');
        await daemon.another(pid);
      }
      assert.equal((await daemon.client.status()).mounts.length, 0);
      const same = await run('diff', ['-r', image.truth, merged]);
      assert.equal(same.status, 0, same.err);
      assert.notEqual(await openBlobs(daemon), 0);
      assert.equal((await daemon.client.prune({ target: 0 })).blobs.length, 0, 'what is in use stays');
      assert.equal((await run('umount', [merged])).status, 0);
      await released(daemon);
    });

  test('an overlay reads on when the mount went while there was no daemon', async (t) => {
    const daemon = await testDaemon(t);
    const merged = await overlay(daemon);
    const { pid, supervisor } = await daemon.client.health();
    // So that nobody starts another one too early.
    process.kill(supervisor!, 'SIGSTOP');
    try {
      process.kill(pid, 'SIGKILL');
      assert.equal((await run('umount', [join(daemon.directory, 'lower')])).status, 0);
    } finally {
      process.kill(supervisor!, 'SIGCONT');
    }
    await daemon.another(pid);
    assert.equal((await daemon.client.status()).mounts.length, 0);
    const same = await run('diff', ['-r', image.truth, merged]);
    assert.equal(same.status, 0, same.err);
    assert.equal((await run('umount', [merged])).status, 0);
    await released(daemon);
  });
});
