/** A daemon that somebody starts while the supervisor is about to start the next one. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, NYMPH, run, testDaemon, until } from '../daemon.ts';

test('a daemon that is started in the pause after a crash goes, and takes nothing from the one to come', {
  skip: cannotMount(),
}, async (t) => {
  const daemon = await testDaemon(t);
  const { pid, supervisor } = await daemon.supervised();
  const owner = () => readFileSync(join(daemon.root, 'lock'), 'latin1').trim();
  assert.equal(owner(), String(pid));
  process.kill(supervisor!, 'SIGSTOP');
  try {
    process.kill(pid, 'SIGKILL');
    await until(10_000, 'the daemon does not die', () =>
      daemon.client.health().then(
        () => undefined,
        () => true,
      ),
    );
    const { status, err } = await run(NYMPH, ['--config', join(daemon.directory, 'config.toml'), 'daemon']);
    assert.equal(status, 8, err);
    assert.match(err, /another daemon serves/);
    assert.equal(owner(), String(pid), 'the root is not locked meanwhile');
  } finally {
    process.kill(supervisor!, 'SIGCONT');
  }
  assert.equal((await daemon.another(pid)).supervisor, supervisor);
});
