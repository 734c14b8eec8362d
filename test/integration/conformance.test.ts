/** containerd's own suite for snapshotters (`test/conformance`, in Go) against the daemon's socket. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, clearMounts, NYMPH, run } from '../daemon.ts';
import { PROJECT } from '../fixtures.ts';

const SUITE = join(PROJECT, 'test', 'conformance');
/** What a run of Go may take on a slow machine, ms: it compiles containerd's packages. */
const BUILD_MS = 500_000;
const SUBTESTS = 21;
const skip = cannotMount() || (spawnSync('go', ['version']).error ? 'not installed: Go' : false);

test('containerd’s conformance suite', { skip }, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(async () => {
    await clearMounts(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  const go = (...args: string[]) => run('go', ['-C', SUITE, ...args], { timeout: BUILD_MS });
  const modules = await go('mod', 'download');
  if (modules.status !== 0) {
    t.skip(`the Go modules of test/conformance cannot be had here: ${modules.err.trim().split('\n').pop()}`);
    return;
  }
  const program = join(directory, 'suite');
  const built = await go('test', '-c', '-o', program, '.');
  assert.equal(built.status, 0, built.err);
  const suite = await run(program, ['-test.root', '-test.v'], { timeout: BUILD_MS, env: { NYMPH, TMPDIR: directory } });
  const passed = suite.out.toString().match(/^ {4}--- PASS: .*$/gm) ?? [];
  assert.equal(suite.status, 0, `${suite.out}\n${suite.err}`);
  assert.equal(passed.length, SUBTESTS, passed.join('\n'));
});
