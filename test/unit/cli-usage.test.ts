import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { buildProgram } from '../../src/cli/program.ts';
import { EXIT } from '../../src/exit-status.ts';
import { APP_LAYOUT } from '../fixtures.ts';
import { makePlainImage } from '../plain-image.ts';
import { nymph, scratch } from './cli-daemon.ts';

const commands = () => buildProgram(async () => {}).commands;

test('every command has a description and an example of itself', () => {
  const names = commands().map((command) => command.name());
  const wanted = [
    'daemon',
    'upgrade',
    'mount',
    'umount',
    'pull',
    'preheat',
    'rpull',
    'run-check',
    'ls',
    'status',
    'top',
    'prefetch',
    'trace',
    'inspect',
    'build',
    'convert',
    'verify',
    'prune',
    'pin',
    'unpin',
    'doctor',
    'setup',
    'plugin',
  ];
  assert.deepEqual(names, wanted);
  for (const command of commands()) {
    let help = '';
    command.configureOutput({ writeOut: (text) => (help += text) });
    command.outputHelp();
    assert.match(help, new RegExp(`\nExamples?:\n  nymph ${command.name()}`), command.name());
    assert.match(help, /--json/, command.name());
    assert.ok(command.description().length > 10, command.name());
  }
});

test('the examples are command lines that parse', async () => {
  for (const command of commands()) {
    let help = '';
    command.configureOutput({ writeOut: (text) => (help += text) });
    command.outputHelp();
    for (const [, line] of help.matchAll(/^ {2}nymph (.*)$/gm)) {
      let chosen = 0;
      const program = buildProgram(async () => void chosen++);
      for (const one of [program, ...program.commands]) one.exitOverride().configureOutput({ writeErr: () => {} });
      await program.parseAsync(line.split(' '), { from: 'user' });
      assert.equal(chosen, 1, line);
    }
  }
});

test('docs/cli.md has every command, option and exit status', async () => {
  const page = await readFile(new URL('../../docs/cli.md', import.meta.url), 'utf8');
  for (const command of commands()) {
    assert.ok(page.includes(`### \`nymph ${command.name()}`), command.name());
    for (const option of command.options)
      assert.ok(page.includes(option.long ?? ''), `${command.name()} ${option.long}`);
  }
  for (const option of buildProgram(async () => {}).options)
    assert.ok(page.includes(`\`${option.long}`), option.long ?? '');
  for (const status of Object.values(EXIT)) assert.match(page, new RegExp(`^\\| ${status} \\|`, 'm'), String(status));
});

test('what is wrong with a command line is said in one way', async () => {
  const cases: [string[], RegExp][] = [
    [['mout', 'a', 'b'], /^nymph: unknown command 'mout'\n\(Did you mean mount\?\)\n {2}See `nymph --help`\.\n$/],
    [['mount', 'a'], /^nymph: missing required argument 'directory'\n {2}See `nymph mount --help`\.\n$/],
    [['ls', 'x'], /^nymph: too many arguments/],
    [['pull', 'a', '--prefetch', 'all'], /^nymph: unknown option '--prefetch'/],
    [['mount', 'a', 'b', '--prefetch', 'some'], /^nymph: option .*Allowed choices are none, image, all/],
    [['prune', '--to', '10Gb'], /^nymph: option .*Write a size, for example 10GiB/],
    [['prune', '--all', '--to', '1'], /^nymph: option '--all' cannot be used with/],
    [['pull', 'a', '--platform', 'linux'], /^nymph: wrong platform "linux"/],
    [['pull', 'http://a/b'], /^nymph: wrong reference/],
    [[], /Commands:[\s\S]*\nnymph: no command was given\n$/],
  ];
  for (const [args, expected] of cases) {
    const { status, out, err } = await nymph(args);
    assert.equal(status, 2, args.join(' '));
    assert.equal(out, '');
    assert.match(err, expected);
  }
  const json = await nymph(['mout', '--json']);
  assert.equal(JSON.parse(json.out).error.code, 'usage');
  assert.equal(json.status, 2);
});

test('help and version go to standard output', async () => {
  for (const args of [['--help'], ['help', 'mount'], ['mount', '--help']]) {
    const { status, out, err } = await nymph(args);
    assert.deepEqual({ status, err }, { status: 0, err: '' });
    assert.match(out, /^Usage: nymph/);
  }
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
  assert.equal((await nymph(['--version'])).out, `${version}\n`);
});

test('a wrong configuration is exit status 2, with every line', async (t) => {
  const file = join(await scratch(t), 'c.toml');
  await writeFile(file, '[cahce]\nquota = "1GiB"\n[log]\nlevel = "loud"\n');
  const { status, err } = await nymph(['ls', '--config', file]);
  assert.equal(status, 2);
  const expected = [
    `nymph: ${file}:1: unknown section [cahce]; did you mean [cache]?`,
    `${file}:4: log.level must be one of "debug", "info", "warn", "error"`,
    '  Every key is described in docs/configuration.md.',
    '',
  ];
  assert.deepEqual(err.split('\n'), expected);
});

test('no daemon is exit status 7, with the cause if it is asked for', async (t) => {
  const address = join(await scratch(t), 'none.sock');
  const { status, err } = await nymph(['ls', '--address', address]);
  assert.equal(status, 7);
  assert.match(err, /^nymph: no daemon runs at .*none\.sock\n {2}Start it with `nymph daemon`\.\n$/);
  const verbose = await nymph(['ls', '--verbose', '--address', address]);
  assert.match(verbose.err, /^ {2}caused by: connect ENOENT/m);
  const config = join(await scratch(t), 'c.toml');
  await writeFile(config, `address = "${address}"\n[log]\nlevel = "debug"`);
  assert.match((await nymph(['ls', '--config', config])).err, /^ {2}caused by: connect ENOENT/m);
});

test('a folder named without its kind is not looked for in a registry', async () => {
  const { err, status } = await nymph(['mount', relative(process.cwd(), APP_LAYOUT), '/mnt']);
  assert.equal(status, EXIT.usage);
  assert.match(err, /is a folder here.*\n {2}Write oci:fixtures\/oci\/app /);
});

test('sizes that no image can have are refused, and none is made', async (t) => {
  const directory = await scratch(t);
  const source = `oci:${join(directory, 'plain')}:app`;
  makePlainImage(join(directory, 'plain'), 'app', { '/a': 'x' });
  for (const sizes of [
    ['--chunk-size', '5000'],
    ['--chunk-size', '32MiB'],
    ['--batch-size', '3000'],
  ]) {
    const refused = await nymph(['convert', source, `oci:${join(directory, 'out')}:app`, ...sizes]);
    assert.equal(refused.status, EXIT.usage, refused.err);
    assert.equal(existsSync(join(directory, 'out', 'index.json')), false);
  }
});
