import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readTrace } from '../../src/cli/trace-input.ts';

test('a trace is read in each form in which it is written', () => {
  assert.deepEqual(readTrace('0:12+3 1:0+1\n', 'f'), { trace: '0:12+3 1:0+1' });
  assert.deepEqual(readTrace('# of my app\n/bin/sh\r\n\n/lib/a b\n', 'f'), { files: ['/bin/sh', '/lib/a b'] });
  assert.deepEqual(readTrace('["/bin/sh"]', 'f'), { files: ['/bin/sh'] });
  const printed = { reference: 'r', digest: 'sha256:1', trace: '0:1+1', bytes: 4096, files: ['/a'] };
  const { bytes, ...kept } = printed;
  assert.deepEqual(readTrace(JSON.stringify(printed), 'f'), kept);
});

test('what is no trace is refused, with the name of the file', () => {
  for (const text of ['', ' \n', '{"a', '{}', '[]', '[1]', '[""]', '{"files":[]}', '# only\n'])
    assert.throws(() => readTrace(text, 'file.trace'), { code: 'usage', message: /^file\.trace / }, text);
  assert.throws(() => readTrace('', '-'), /^NymphError: standard input is empty/);
});
