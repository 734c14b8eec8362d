import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfig, parseConfig } from '../../src/daemon/config.ts';
import { statementLines } from '../../src/daemon/config-lines.ts';
import { nearest } from '../../src/daemon/nearest.ts';
import { NymphError } from '../../src/errors.ts';

/** The error's lines, after a check of its code. */
function wrong(text: string, overrides?: { root?: string; address?: string }): string[] {
  try {
    parseConfig(text, 'c.toml', overrides);
  } catch (error) {
    assert.ok(error instanceof NymphError, String(error));
    assert.equal(error.code, overrides?.address === undefined ? 'config' : 'usage');
    return error.message.split('\n');
  }
  assert.fail(`no error for ${text}`);
}

test('an empty file means defaults', () => {
  const config = parseConfig('', 'c.toml');
  assert.equal(config.root, '/var/lib/nymph');
  assert.equal(config.address, '/run/nymph/control.sock');
  assert.equal(config.fuse.mountpoint, '/run/nymph/fs');
  assert.equal(config.fetch.deadline, 60_000);
  assert.equal(config.fetch.windowMax, 64 * 1024 * 1024);
  assert.equal(config.cache.quota, undefined);
  assert.equal(config.registry.credentials, undefined);
  assert.ok(config.fuse.threads >= 1 && config.fuse.threads <= 4);
});

test('settings are read with their units', () => {
  const config = parseConfig(
    `root = "/data/nymph/"
[log]
level = "debug"
[fetch]
deadline = "1m30s"
amplify = 4096
window_max = "1.5MiB"
[cache]
quota = "50GiB"
[registry]
plain_http = ["localhost:5000", "[::1]:5000", "10.0.0.1"]
connect_timeout = "250ms"`,
    'c.toml',
  );
  assert.equal(config.root, '/data/nymph/');
  assert.equal(config.log.level, 'debug');
  assert.equal(config.fetch.deadline, 90_000);
  assert.equal(config.fetch.amplify, 4096);
  assert.equal(config.fetch.windowMax, 1.5 * 1024 * 1024);
  assert.equal(config.cache.quota, 50 * 1024 ** 3);
  assert.deepEqual(config.registry.plainHttp, ['localhost:5000', '[::1]:5000', '10.0.0.1']);
  assert.equal(config.registry.connectTimeout, 250);
  assert.equal(parseConfig('[cache]\nquota = "0"', 'c.toml').cache.quota, undefined);
});

test('settings cannot be changed', () => {
  const config = parseConfig('[registry]\nplain_http = ["a"]', 'c.toml');
  for (const part of [config, config.fetch, config.registry, config.registry.plainHttp, config.registry.configDirs])
    assert.ok(Object.isFrozen(part));
});

test('the command line is stronger than the file, and the mountpoint follows', () => {
  const config = parseConfig('root = "/a"\naddress = "/b/c.sock"', 'c.toml', { address: '/tmp/x/d.sock' });
  assert.equal(config.root, '/a');
  assert.equal(config.address, '/tmp/x/d.sock');
  assert.equal(config.fuse.mountpoint, '/tmp/x/fs');
});

test('a misspelled key is named with its line and what was meant', () => {
  assert.deepEqual(wrong('# comment\n\n[fetch]\nattempts = 3\ndedline = "5s"'), [
    'c.toml:5: unknown key "dedline" in [fetch]; did you mean "deadline"?',
  ]);
  assert.deepEqual(wrong('[fech]\ndeadline = "5s"'), ['c.toml:1: unknown section [fech]; did you mean [fetch]?']);
  assert.deepEqual(wrong('quota = "5GiB"'), [
    'c.toml:1: unknown key "quota" outside of sections; it belongs in [cache]',
  ]);
  assert.deepEqual(wrong('[log]\nroot = "/x"'), [
    'c.toml:2: unknown key "root" in [log]; it belongs above all sections',
  ]);
  assert.deepEqual(wrong('[log]\nxyzzy = 1'), ['c.toml:2: unknown key "xyzzy" in [log]']);
  for (const name of ['__proto__', 'constructor', 'top', 'toString'])
    assert.match(wrong(`[${name}]\na = 1`)[0], /^c\.toml:1: unknown section/, name);
});

test('all errors are shown at once, in the order of the file', () => {
  assert.deepEqual(wrong('log = 3\n[fetch]\namplify = "much"\nattempts = 0\n[fuse]\nthreads = 1.5\ndriver = "x"'), [
    'c.toml:1: log is a section; write [log] and its keys below',
    'c.toml:3: fetch.amplify must be a size like "64MiB", from 0 to 64MiB',
    'c.toml:4: fetch.attempts must be an integer from 1 to 20',
    'c.toml:6: fuse.threads must be an integer from 1 to 64',
    'c.toml:7: fuse.driver must be one of "kernel", "fuse-native"',
  ]);
});

test('values of the wrong kind are refused', () => {
  const cases: [string, RegExp][] = [
    ['root = "relative"', /root must be an absolute path/],
    ['root = "/a\\u0000b"', /root must be an absolute path/],
    ['[fetch]\ndeadline = 60', /fetch\.deadline must be a duration like "60s", from 1s to 1h/],
    ['[fetch]\ndeadline = "2h"', /fetch\.deadline must be/],
    ['[fetch]\namplify = -1', /fetch\.amplify must be/],
    ['[fetch]\nwindow_max = 2026-01-01', /fetch\.window_max must be/],
    ['[registry]\nplain_http = "a"', /registry\.plain_http must be a list of hosts/],
    ['[registry]\nplain_http = ["http://a"]', /each `host` or `host:port`, without scheme/],
    ['[registry]\nconfig_dirs = ["certs.d"]', /each an absolute path/],
    ['[registry]\ncredentials = ["/x"]', /registry\.credentials must be an absolute path/],
    [`address = "/${'x'.repeat(107)}"`, /address is 108 bytes long/],
  ];
  for (const [text, expected] of cases) assert.match(wrong(text)[0], expected, text);
  assert.match(wrong('', { address: `/${'x'.repeat(107)}` })[0], /^--address is 108 bytes long/);
});

test('text that is no TOML is refused with line and column', () => {
  assert.match(wrong('[log]\nlevel = \n')[0], /^c\.toml:2:\d+: no valid TOML: /);
  assert.match(wrong('[log]\n[log]\n')[0], /^c\.toml:\d+:\d+: no valid TOML: /);
});

test('only the default file may be absent', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'nymph-config-'));
  t.after(() => rm(directory, { recursive: true }));
  const file = join(directory, 'config.toml');
  await assert.rejects(loadConfig(file), { code: 'config', message: `cannot read ${file}: ENOENT` });
  await assert.rejects(loadConfig(directory), { code: 'config', message: `cannot read ${directory}: EISDIR` });
  await writeFile(file, '[cache]\nquota = "1GiB"');
  assert.equal((await loadConfig(file)).cache.quota, 1024 ** 3);
});

test('statements are found whatever their form', () => {
  const text = `a = """
b = 1
"""
c = [
  1,
  # [d]
  2 ]
e = { f = 1, g = 2 }
"h" . 'i' = 3

[ "j".k ]   # l = 1
l = '''
x'''
[[m]]
`;
  const paths = [['a'], ['c'], ['e', 'g'], ['h', 'i'], ['j'], ['j', 'k', 'l'], ['m'], ['absent']];
  assert.deepEqual(statementLines(text, paths), [1, 4, 8, 9, 11, 12, 14, 1]);
  assert.deepEqual(statementLines(text.replaceAll('\n', '\r\n'), [['j', 'k', 'l']]), [12]);
});

test('the nearest word is within a third of its length', () => {
  assert.equal(nearest('dedline', ['attempts', 'deadline']), 'deadline');
  assert.equal(nearest('windowmax', ['window_max']), 'window_max');
  assert.equal(nearest('cahce', ['cache']), 'cache');
  assert.equal(nearest('abc', ['xyz', 'abcdefgh']), undefined);
  assert.equal(nearest('a'.repeat(1_000_000), ['a']), undefined);
});
