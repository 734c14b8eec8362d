import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { frame } from '../../src/cli/top/frame.ts';
import { ratesOf } from '../../src/cli/top/rates.ts';
import type { Live } from '../../src/daemon/api.ts';
import { until } from '../daemon.ts';
import { IMAGE, MAIN, nymph, STATUS, serve } from './cli-daemon.ts';

/** One look, `step` seconds after the first: each second brings 10 faults of at most 10 ms, and one longer than all bounds. */
function look(step: number): Live {
  const { health, cache, fuse, fetch } = STATUS;
  const registry = fetch.sources['registry.example'];
  return {
    time: 1_700_000_000_000 + step * 1000,
    health: { ...health, uptime: health.uptime + step },
    cache,
    fuse: { ...fuse, hits: 1000 + step * 90, hitBytes: step * 2 ** 20, faults: step * 11 },
    fetch: {
      ...fetch,
      sources: { 'registry.example': { ...registry, bytes: step * 3 * 2 ** 20, requests: step * 4 } },
      faultLatencyMs: { bounds: [10, 100], counts: [step * 10, 0, step], sum: 0 },
    },
    images: [
      {
        ...{ reference: IMAGE.reference, digest: IMAGE.digest, kind: 'erofs', mounts: ['/mnt/app'] },
        ...{ size: IMAGE.size, ready: IMAGE.ready, faults: step * 11, failed: 0 },
        bytes: { 'registry.example': step * 3 * 2 ** 20 },
        blobs: [],
      },
      {
        ...{ reference: `registry.example/${'long/'.repeat(30)}name:tag\x1b[2J`, digest: 'sha256:0', kind: 'fuse' },
        ...{ mounts: [], size: 0, ready: 0, faults: 0, failed: 0, bytes: {}, blobs: [] },
      },
    ],
  };
}

test('rates are those between two looks, or since the start of another daemon', () => {
  const rates = ratesOf(look(10), look(14));
  assert.equal(rates.seconds, 4);
  assert.deepEqual(rates.reads, { hits: 90, faults: 11, hitBytes: 2 ** 20, waiting: 1 });
  assert.deepEqual(rates.faultMs, { p50: 10, p99: 100 });
  assert.deepEqual(rates.latency.counts, [40, 0, 4]);
  assert.equal(rates.sources[0].bytes, 3 * 2 ** 20);
  assert.equal(rates.images[0].bytes, 3 * 2 ** 20);
  assert.equal(rates.images[0].faults, 11);

  const again = look(2);
  const restarted = ratesOf(look(10), { ...again, health: { ...again.health, pid: 7, uptime: 2 } });
  assert.equal(restarted.seconds, 2);
  assert.equal(restarted.reads.faults, 11);
  assert.equal(ratesOf(look(1), look(2)).reads.hits, 90);
  assert.equal(ratesOf(look(3), look(3)).seconds > 0, true);
});

test('a picture fits the terminal, whatever the names of images are', () => {
  for (const [width, height] of [
    [80, 24],
    [60, 10],
    [200, 50],
    [20, 3],
  ]) {
    const lines = frame(look(14), ratesOf(look(10), look(14)), width, height);
    assert.ok(lines.length <= height, `${lines.length} lines`);
    for (const line of lines) {
      assert.ok([...line].length <= width, `${width}: ${line}`);
      assert.doesNotMatch(line, /\p{Cc}/u);
    }
  }
  const text = frame(look(14), ratesOf(look(10), look(14)), 80, 24).join('\n');
  assert.match(text, /^nymph 0\.1\.0 {2}up 2h00m {2}2 images mounted +22:13:34$/m);
  assert.match(text, /^reads +101\/s {2}1 MiB\/s from the cache {2}89% hits$/m);
  assert.match(text, /^faults +11\/s {2}1 waiting {2}half ≤ 10 ms, 99% ≤ 100 ms$/m);
  assert.match(text, /^latency +10 ms \|█ ▁\| 100 ms$/m);
  assert.match(text, /^registry\.example +3 MiB +4 +0 +11 ms +42 MiB$/m);
  assert.match(text, /^registry\.example\/app:nydus +33% +3 MiB ███░░░░░░░ +11 +3 MiB$/m);
  assert.match(text, /^….*name:tag/m);
});

test('without a terminal one picture is printed; with --json documents, line by line', async (t) => {
  let step = 0;
  const address = await serve(t, { calls: { 'GET /v1/live': () => look(++step) } });
  const once = await nymph(['top', '--interval', '0.1', '--address', address]);
  assert.equal(once.status, 0, once.err);
  assert.match(once.out, /^nymph 0\.1\.0 .*\n/);
  assert.doesNotMatch(once.out, /\x1b/);
  assert.match(once.out, /^registry\.example\/app:nydus +33%/m);

  const lines = await nymph(['top', '--json', '--once', '--interval', '0.1', '--address', address]);
  const document = JSON.parse(lines.out);
  assert.equal(document.reads.faults, 11);
  assert.equal(document.images[0].reference, IMAGE.reference);

  const wrong = await nymph(['top', '--interval', '0', '--address', address]);
  assert.equal(wrong.status, 2);
  const gone = await nymph(['top', '--address', `${address}.absent`]);
  assert.equal(gone.status, 7);
});

const noTmux = spawnSync('tmux', ['-V']).error !== undefined && 'needs tmux';

test('in a terminal it draws, outlives its daemon, and gives the terminal back', { skip: noTmux }, async (t) => {
  let step = 0;
  let isAway = false;
  const address = await serve(t, {
    calls: {
      'GET /v1/live': () => {
        if (isAway) throw new Error('out for lunch');
        return look(++step);
      },
    },
  });
  // Not in the daemon's directory, which goes before the terminal does.
  const socket = join(tmpdir(), `nymph-top-${process.pid}.tmux`);
  const tmux = (...args: string[]) => spawnSync('tmux', ['-S', socket, ...args], { encoding: 'utf8' }).stdout;
  t.after(() => void tmux('kill-server'));
  const screen = () => tmux('capture-pane', '-p', '-t', 'top');
  const shown = (pattern: RegExp) =>
    until(30_000, `the screen has no ${pattern}: ${screen()}`, async () => pattern.test(screen()) || undefined);
  tmux('new-session', '-d', '-s', 'top', '-x', '80', '-y', '24', '/bin/sh');
  const command = `NO_COLOR=1 ${process.execPath} --disable-warning=ExperimentalWarning ${MAIN} top --interval 0.1 --address ${address}`;
  for (const quit of ['q', 'C-c']) {
    tmux('send-keys', '-t', 'top', `clear; echo be''fore; ${command}; echo sta''tus $?`, 'Enter');
    await shown(/registry\.example\/app:nydus +33%/);
    assert.doesNotMatch(screen(), /before/, 'it has a screen of its own');
    isAway = true;
    await shown(/out for lunch; waiting for it/);
    isAway = false;
    await shown(/registry\.example\/app:nydus +33%/);
    tmux('resize-window', '-t', 'top', '-x', '60', '-y', '12');
    await shown(/^nymph .{20,60}$/m);
    for (const line of screen().split('\n')) assert.ok([...line].length <= 60);
    tmux('resize-window', '-t', 'top', '-x', '80', '-y', '24');
    tmux('send-keys', '-t', 'top', quit);
    await shown(/before\n(?:.*\n)*status (?:0|130)/);
    // What is typed is echoed again.
    tmux('send-keys', '-t', 'top', 'echo ty"p"ed', 'Enter');
    await shown(/echo ty"p"ed\n(?:.*\n)*typed/);
  }
});
