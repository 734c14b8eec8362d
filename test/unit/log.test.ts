import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { loggerTo, withoutSecrets } from '../../src/daemon/log.ts';
import { textLine } from '../../src/daemon/log-text.ts';
import { NymphError } from '../../src/errors.ts';

function logged(write: (log: ReturnType<typeof loggerTo>) => void): string[] {
  const lines: string[] = [];
  write(loggerTo({ write: (line) => void lines.push(line) }, 'info'));
  return lines;
}

test('secrets are taken out of messages, addresses and fields', () => {
  assert.equal(withoutSecrets('GET https://me:pa%20ss@host/v2/'), 'GET https://[secret]@host/v2/');
  assert.equal(withoutSecrets('Authorization: Bearer abc.def-123'), 'Authorization: Bearer [secret]');
  assert.equal(withoutSecrets('authorization: basic YTpi=='), 'authorization: basic [secret]');
  assert.equal(
    withoutSecrets('https://s3/x?X-Amz-Signature=deadbeef&X-Amz-Credential=a/b&part=2&sig=12'),
    'https://s3/x?X-Amz-Signature=[secret]&X-Amz-Credential=[secret]&part=2&sig=[secret]',
  );
  const plain = 'pulled registry.example:5000/app@sha256:ab, mailto a@b; see https://host/a?b=c';
  assert.equal(withoutSecrets(plain), plain);
  const long = `?${'sig'.repeat(300_000)}`;
  const begin = performance.now();
  assert.equal(withoutSecrets(long), long);
  assert.ok(performance.now() - begin < 2000);

  const [line] = logged((log) =>
    log.info(
      {
        url: 'http://u:p@h/?token=t0k"en',
        headers: { authorization: 'x', accept: '*/*' },
        a: { b: { password: 'y' } },
      },
      'm',
    ),
  );
  const { url, headers, a } = JSON.parse(line);
  assert.deepEqual(
    { url, headers, a },
    {
      url: 'http://[secret]@h/?token=[secret]"en',
      headers: { authorization: '[secret]', accept: '*/*' },
      a: { b: { password: '[secret]' } },
    },
  );
});

test('errors are fields; only a fault of ours has a stack', () => {
  const cause = new Error('reset', { cause: new Error('deep') });
  const [known, unknown] = logged((log) => {
    log.warn({ error: new NymphError('source', 'cannot read', { hint: 'Wait.', cause }) }, 'failed');
    log.error({ error: new TypeError('boo') }, 'failed');
  });
  assert.deepEqual(JSON.parse(known).error, {
    code: 'source',
    message: 'cannot read',
    hint: 'Wait.',
    cause: 'reset: deep',
  });
  assert.match(JSON.parse(unknown).error.stack, /log\.test\.ts/);
});

test('text for people is one line for each event', () => {
  const [line] = logged((log) =>
    log.warn(
      { error: new NymphError('source', 'line one\nline two', { hint: 'Wait.' }), directory: '/mnt/a b', ms: 3 },
      'slow\x1b',
    ),
  );
  const text = textLine(line, false);
  assert.match(
    text,
    /^\d\d:\d\d:\d\d\.\d{3} {2}WARN {3}slow {3}line one \| line two \(source\); Wait\. {2}directory="\/mnt\/a b" {2}ms=3\n$/,
  );
});

test('what was logged before the process ends is written', () => {
  const log = new URL('../../src/daemon/log.ts', import.meta.url).href;
  const ends = [
    'process.exit(3)',
    // The daemon's way: no handlers run.
    `log.flush(() => koffi.load('libc.so.6').func('void _exit(int)')(3))`,
  ];
  for (const format of ['auto', 'text']) {
    for (const end of ends) {
      const script = `const koffi = (await import(${JSON.stringify(import.meta.resolve('koffi'))})).default;
      const { createLogger } = await import(${JSON.stringify(log)});
      const log = createLogger({ level: 'info', format: '${format}' });
      for (let i = 0; i < 1000; i++) log.info({ i }, 'x'.repeat(1000));
      ${end};`;
      const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
      const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
      assert.equal(status, 3, stderr.slice(-1000));
      const lines = stderr.trimEnd().split('\n');
      assert.equal(lines.length, 1000, `${format} ${end}`);
      for (const [i, line] of lines.entries())
        assert.match(line, format === 'text' ? new RegExp(` i=${i}$`) : new RegExp(`"i":${i},`));
    }
  }
});

test('a log that cannot be written ends nothing, neither while the process runs nor when it ends', () => {
  const program = `
    import { createLogger } from ${JSON.stringify(new URL('../../src/daemon/log.ts', import.meta.url).href)};
    const log = createLogger({ level: 'info', format: 'json', file: '/dev/full' });
    for (let i = 0; i < 20; i++) {
      log.info('line');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    process.stdout.write('alive');
  `;
  const options = { encoding: 'utf8', timeout: 10_000 } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], options);
  assert.deepEqual({ status, stdout }, { status: 0, stdout: 'alive' }, stderr);
});
