import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { INHERITED_ENV, TREES_ENV } from '../../src/daemon/supervision.ts';
import type { Adoption } from '../../src/daemon/supervisor-main.ts';

test('a supervisor knows what was told before it, though the daemon that starts it dies at once', async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const script = join(directory, 'daemon.mjs');
  writeFileSync(
    script,
    `import { writeFileSync } from 'node:fs';
    writeFileSync(process.argv[2], process.env.${INHERITED_ENV} + process.env.${TREES_ENV});`,
  );
  const adoption: Adoption = {
    pid: process.pid,
    told: [{ type: 'mounted' }, { type: 'trees-mounted' }, { type: 'ready' }],
    command: [process.execPath, script, join(directory, 'inherited')],
    fuse: true,
    trees: true,
    log: { level: 'error', format: 'json' },
  };
  const main = fileURLToPath(new URL('../../src/daemon/supervisor-main.ts', import.meta.url));
  const connection = openSync('/dev/null', 'r+');
  const supervisor = spawn(process.execPath, [main, JSON.stringify(adoption)], {
    stdio: ['ignore', 'ignore', 'inherit', connection, 'ipc', connection],
  });
  closeSync(connection);
  supervisor.disconnect();
  assert.equal(await new Promise((resolve) => supervisor.once('exit', resolve)), 0);
  assert.equal(
    readFileSync(join(directory, 'inherited'), 'utf8'),
    '1inherited',
    'the next daemon inherits both connections',
  );
});
