import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mountFuse, refuseServed } from '../../src/mount/fuse.ts';
import { cannotMount, clearMounts, isAlive, until } from '../daemon.ts';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

test('a connection is ended if only the dead hold it: a supervisor that was killed as it waited for an answer', {
  skip: cannotMount(),
}, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  const served = join(directory, 'fs');
  mkdirSync(served);
  const args = [path('supervise.ts'), path('stuck-daemon.ts'), served, directory];
  const supervisor = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const asked = join(directory, 'asked');
  let daemon = 0;
  t.after(async () => {
    supervisor.kill('SIGKILL');
    await clearMounts(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  await until(10_000, 'the name is not asked for', async () => existsSync(asked) || undefined);
  daemon = Number(readFileSync(asked, 'utf8'));

  await assert.rejects(refuseServed(served), /another daemon serves/, 'its daemon lives, and may answer yet');
  // Each would start the other again.
  for (const signal of ['SIGSTOP', 'SIGKILL'] as const)
    for (const pid of [supervisor.pid!, daemon]) process.kill(pid, signal);
  await until(3000, 'the daemon does not die', async () => !isAlive(daemon) || undefined);

  const fuse = openSync('/dev/fuse', 'r+');
  try {
    await mountFuse(fuse, served);
  } finally {
    closeSync(fuse);
  }
  await until(3000, 'the supervisor does not end', async () => !isAlive(supervisor.pid!) || undefined);
});
