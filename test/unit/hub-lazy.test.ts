import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Prints the modules of ours that the daemon loads before anything is asked of it. */
const SCRIPT = `
const { registerHooks } = require('node:module');
const seen = [];
registerHooks({
  load(url, context, next) {
    seen.push(url);
    return next(url, context);
  },
});
import(process.argv[1]).then(() => console.log(seen.filter((url) => url.includes('/src/')).join('\\n')));
`;

test('a daemon without hubs loads nothing of drivers but names', () => {
  const daemon = fileURLToPath(new URL('../../src/daemon/daemon.ts', import.meta.url));
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', SCRIPT, daemon], { encoding: 'utf8' });
  const loaded = stdout.split('\n').map((url) => url.replace(/^.*\/src\//, ''));
  assert.ok(loaded.includes('mount/open.ts'), stderr);
  assert.deepEqual(loaded.filter((path) => path.startsWith('plugins/') || path.startsWith('sources/hub/')).sort(), [
    'plugins/directory.ts',
    'plugins/hosts.ts',
    'plugins/scheme.ts',
    'sources/hub/repository.ts',
  ]);
});
