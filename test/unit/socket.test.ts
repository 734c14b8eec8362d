import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { claimSocket } from '../../src/daemon/socket.ts';

test('a socket makes way if nobody answers on it; what is no socket stays', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-'));
  t.after(() => rmSync(directory, { recursive: true }));
  await claimSocket(join(directory, 'new', 'socket'));
  const file = join(directory, 'file');
  writeFileSync(file, 'precious');
  await assert.rejects(claimSocket(file), { code: 'config', message: /file is no socket/ });
  assert.equal(readFileSync(file, 'utf8'), 'precious');
  const address = join(directory, 'socket');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(address, resolve));
  await assert.rejects(claimSocket(address), { code: 'busy' });
  await new Promise((resolve) => server.close(resolve));
  // As a killed process leaves it.
  const { status } = spawnSync(process.execPath, [
    '-e',
    `require('node:net').createServer().listen(${JSON.stringify(address)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ]);
  assert.equal(status, null);
  assert.equal(existsSync(address), true);
  await claimSocket(address);
  assert.equal(existsSync(address), false);
});
