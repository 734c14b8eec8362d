/** What loads models in practice, on a mounted one: Python's safetensors, tokenizers, gguf, onnx. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { cannotMount, run, testDaemon } from '../daemon.ts';
import { makeModel } from '../model.ts';
import { startRegistry } from '../registry/registry.ts';

/** Writes a tiny model with whatever of the packages is there. */
const WRITE = `
import json, sys, os
out = sys.argv[1]
import numpy
def tensor(seed): return numpy.random.default_rng(seed).standard_normal((512, 1100), dtype='float32')
from safetensors.numpy import save_file
index = {}
for shard in range(2):
    name = f'model-0000{shard + 1}-of-00002.safetensors'
    tensors = {f'layer.{shard}.{i}': tensor(10 * shard + i) for i in range(3)}
    save_file(tensors, os.path.join(out, name))
    index.update({key: name for key in tensors})
json.dump({'metadata': {}, 'weight_map': index}, open(os.path.join(out, 'model.safetensors.index.json'), 'w'))
json.dump({'architectures': ['Tiny'], 'model_type': 'bert', 'hidden_size': 8}, open(os.path.join(out, 'config.json'), 'w'))
try:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    Tokenizer(WordLevel({'hello': 0, 'world': 1, '[UNK]': 2}, unk_token='[UNK]')).save(os.path.join(out, 'tokenizer.json'))
except ImportError: pass
try:
    import gguf
    writer = gguf.GGUFWriter(os.path.join(out, 'model.gguf'), 'llama')
    writer.add_block_count(1)
    for i in range(3): writer.add_tensor(f'blk.{i}.weight', tensor(i))
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
except ImportError: pass
try:
    import onnx
    from onnx import helper, TensorProto, numpy_helper
    weight = numpy_helper.from_array(tensor(5), 'w')
    x = helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 512]); y = helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 1100])
    graph = helper.make_graph([helper.make_node('MatMul', ['x', 'w'], ['y'])], 'tiny', [x], [y], [weight])
    onnx.save(helper.make_model(graph), os.path.join(out, 'model.onnx'))
except ImportError: pass
`;

/** Reads it, and says of each package what came of it. */
const READ = `
import json, sys, os
where = sys.argv[1]
import numpy
def tensor(seed): return numpy.random.default_rng(seed).standard_normal((512, 1100), dtype='float32')
def safetensors():
    from safetensors import safe_open
    index = json.load(open(os.path.join(where, 'model.safetensors.index.json')))['weight_map']
    for key, name in reversed(index.items()):
        with safe_open(os.path.join(where, name), framework='numpy') as file:
            shard, i = map(int, key.split('.')[1:])
            assert (file.get_tensor(key) == tensor(10 * shard + i)).all()
def tokenizers():
    from tokenizers import Tokenizer, pre_tokenizers
    tokenizer = Tokenizer.from_file(os.path.join(where, 'tokenizer.json'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenizer.encode('hello world').ids == [0, 1]
def gguf():
    import gguf
    tensors = gguf.GGUFReader(os.path.join(where, 'model.gguf')).tensors
    for i, found in enumerate(tensors): assert (found.data.reshape(512, 1100) == tensor(i)).all()
    assert len(tensors) == 3
def onnx():
    import onnx
    model = onnx.load(os.path.join(where, 'model.onnx'))
    onnx.checker.check_model(model)
    assert (onnx.numpy_helper.to_array(model.graph.initializer[0]) == tensor(5)).all()
for read in (safetensors, tokenizers, gguf, onnx):
    try: read(); print(read.__name__, 'right')
    except ImportError as error: print(read.__name__, 'absent:', error)
`;

const PACKAGES = ['safetensors', 'tokenizers', 'gguf', 'onnx'];
const site = mkdtempSync(join(tmpdir(), 'nymph-python-'));
after(() => rmSync(site, { recursive: true, force: true }));

/** Why not, or false. One package after another: not every registry has them all. */
function noPython(): string | false {
  const pip = (...names: string[]) =>
    spawnSync('python3', ['-m', 'pip', 'install', '-q', '--no-warn-script-location', '--target', site, ...names], {
      stdio: 'ignore',
      timeout: 120_000,
    }).status === 0;
  if (!pip('numpy', 'safetensors')) return 'pip offers no numpy and safetensors';
  for (const name of PACKAGES.slice(1)) pip(name);
  return false;
}

const cannot = cannotMount() || noPython();

describe('software that loads models', { skip: cannot }, () => {
  test('reads a mounted one, cold and complete', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'nymph-software-'));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const truth = join(directory, 'truth');
    mkdirSync(truth);
    const python = (script: string, where: string) =>
      run('python3', ['-c', script, where], { env: { PYTHONPATH: site, PYTHONDONTWRITEBYTECODE: '1' } });
    const written = await python(WRITE, truth);
    assert.equal(written.status, 0, written.err);
    const layout = join(directory, 'layout');
    makeModel(
      layout,
      'v1',
      readdirSync(truth).map((path) => ({ path, bytes: readFileSync(join(truth, path)) })),
    );
    const registry = await startRegistry({ layouts: { tiny: layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    const mounted = await daemon.nymph('mount', '--prefetch', 'none', `${registry.host}/tiny:v1`, place);
    assert.equal(mounted.status, 0, mounted.err);
    for (const state of ['cold', 'complete']) {
      const { status, out, err } = await python(READ, place);
      assert.equal(status, 0, `${state}: ${err}`);
      for (const line of out.toString().trim().split('\n')) {
        t.diagnostic(`${state}: ${line}`);
        if (line.includes('absent')) continue;
        assert.match(line, / right$/);
      }
      assert.equal((await daemon.nymph('pull', `${registry.host}/tiny:v1`)).status, 0);
    }
  });
});
