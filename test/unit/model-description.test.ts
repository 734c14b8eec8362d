/** What configurations of models tell of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeModel } from '../../src/formats/modelpack/description.ts';

const of = (value: unknown) => describeModel(Buffer.from(JSON.stringify(value)));

test('a configuration of ModelPack is read as it was written at any time', () => {
  const newest = {
    descriptor: {
      name: 'qwen',
      family: 'qwen2',
      version: '2.5',
      licenses: ['Apache-2.0'],
      authors: ['a', 'b'],
      createdAt: '2026-01-02T03:04:05Z',
      sourceURL: 'https://example.org',
    },
    config: {
      architecture: 'transformer',
      format: 'safetensors',
      paramSize: '0.5b',
      precision: 'bfloat16',
      quantization: 'awq',
      capabilities: { inputTypes: ['text'], outputTypes: ['text', 'embedding'] },
    },
    modelfs: { type: 'layers', diffIds: [] },
  };
  assert.deepEqual(of(newest), {
    ...{ name: 'qwen', version: '2.5', authors: ['a', 'b'], family: 'qwen2', architecture: 'transformer' },
    ...{ format: 'safetensors', parameters: '0.5b', precision: 'bfloat16', quantization: 'awq' },
    ...{ licenses: ['Apache-2.0'], source: 'https://example.org', created: '2026-01-02T03:04:05Z' },
    ...{ input: ['text'], output: ['text', 'embedding'] },
  });
  const oldest = { config: { parameterSize: '8b', puantization: 'gptq', capabilities: { input_types: ['image'] } } };
  assert.deepEqual(of(oldest), { parameters: '8b', quantization: 'gptq', input: ['image'] });
});

test('a Kitfile is read', () => {
  const kit = {
    manifestVersion: '1.0.0',
    package: { name: 'p', version: '1', description: 'd', authors: ['me'] },
    model: { name: 'm', framework: 'onnx', license: 'MIT', path: './m' },
  };
  assert.deepEqual(of(kit), {
    ...{ name: 'm', description: 'd', version: '1', authors: ['me'], format: 'onnx', licenses: ['MIT'] },
  });
});

test('what is wrong is left out', () => {
  for (const wrong of [null, [], 'x', 7, {}, { descriptor: [], config: 7 }, { config: { format: 7, paramSize: '' } }])
    assert.deepEqual(of(wrong), {}, JSON.stringify(wrong));
  assert.deepEqual(describeModel(Buffer.from('{')), {});
  assert.deepEqual(describeModel(Buffer.from([0xff, 0xfe])), {});
  assert.equal(of({ descriptor: { name: 'x'.repeat(5000) } }).name?.length, 1000);
  assert.deepEqual(of({ descriptor: { authors: ['a', 7, null, 'b'] } }), { authors: ['a', 'b'] });
});
