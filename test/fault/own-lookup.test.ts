import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { cannotMount, clearMounts, isAlive, until } from '../daemon.ts';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

test('a daemon that is killed before it answers a name that it needs itself can die, and the next one answers', {
  skip: cannotMount(),
}, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  mkdirSync(join(directory, 'fs'));
  const args = [path('supervise.ts'), path('stuck-daemon.ts'), join(directory, 'fs'), directory];
  const supervisor = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise((resolve) => supervisor.once('exit', (code, signal) => resolve(signal ?? code)));
  t.after(async () => {
    supervisor.kill('SIGKILL');
    await clearMounts(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  const mark = (name: string) =>
    until(10_000, `nobody ${name}`, async () => existsSync(join(directory, name)) || undefined);
  await mark('asked');
  const pid = Number(readFileSync(join(directory, 'asked'), 'utf8'));
  process.kill(pid, 'SIGKILL');
  await until(
    3000,
    'the daemon cannot die: a thread of it waits for its own answer',
    async () => !isAlive(pid) || undefined,
  );
  await mark('answered');
  assert.equal(await ended, 0);
});
