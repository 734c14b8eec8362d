/** What loads models in practice, on a mounted one: Python's safetensors, tokenizers, transformers, gguf, onnx. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { headerRanges } from '../../src/formats/weights/header.ts';
import { cannotMount, type Outcome, run, testDaemon } from '../daemon.ts';
import { makeModel } from '../model.ts';
import { startRegistry } from '../registry/registry.ts';

/** A tiny Llama of our own: which tensors it has, and what is in them. */
const MODEL = `
import json, sys, os
import numpy
where = sys.argv[1]
VOCABULARY, HIDDEN, INNER, LAYERS = 20000, 64, 128, 2
shapes = {'model.embed_tokens.weight': (VOCABULARY, HIDDEN), 'model.norm.weight': (HIDDEN,), 'lm_head.weight': (VOCABULARY, HIDDEN)}
for layer in range(LAYERS):
    for name in ('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj'):
        shapes[f'model.layers.{layer}.{name}.weight'] = (HIDDEN, HIDDEN)
    for name in ('mlp.gate_proj', 'mlp.up_proj'): shapes[f'model.layers.{layer}.{name}.weight'] = (INNER, HIDDEN)
    shapes[f'model.layers.{layer}.mlp.down_proj.weight'] = (HIDDEN, INNER)
    for name in ('input_layernorm', 'post_attention_layernorm'): shapes[f'model.layers.{layer}.{name}.weight'] = (HIDDEN,)
def tensor(seed, shape=(512, 1100)): return numpy.random.default_rng(seed).standard_normal(shape, dtype='float32')
def weight(name): return tensor(list(shapes).index(name), shapes[name])
def shard(name): return f"model-0000{2 if name.startswith(('lm_head', 'model.layers.1')) else 1}-of-00002.safetensors"
`;

/** Writes it with whatever of the packages is there. */
const WRITE = `${MODEL}
from safetensors.numpy import save_file
for file in sorted({shard(name) for name in shapes}):
    save_file({name: weight(name) for name in shapes if shard(name) == file}, os.path.join(where, file), metadata={'format': 'pt'})
def write(name, value): json.dump(value, open(os.path.join(where, name), 'w'))
write('model.safetensors.index.json', {'metadata': {}, 'weight_map': {name: shard(name) for name in shapes}})
write('config.json', {
    'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'hidden_size': HIDDEN, 'intermediate_size': INNER,
    'num_hidden_layers': LAYERS, 'num_attention_heads': 4, 'num_key_value_heads': 4, 'vocab_size': VOCABULARY,
    'tie_word_embeddings': False, 'max_position_embeddings': 64, 'torch_dtype': 'float32', 'bos_token_id': 0, 'eos_token_id': 1,
})
write('tokenizer_config.json', {'tokenizer_class': 'PreTrainedTokenizerFast', 'unk_token': '[UNK]'})
try:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    tokenizer = Tokenizer(WordLevel({'hello': 0, 'world': 1, '[UNK]': 2}, unk_token='[UNK]'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(os.path.join(where, 'tokenizer.json'))
except ImportError: pass
try:
    import gguf
    writer = gguf.GGUFWriter(os.path.join(where, 'model.gguf'), 'llama')
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
    onnx.save(helper.make_model(graph), os.path.join(where, 'model.onnx'))
except ImportError: pass
`;

/** Reads it, and says of each package what came of it. */
const READ = `${MODEL}
def safetensors():
    from safetensors import safe_open
    index = json.load(open(os.path.join(where, 'model.safetensors.index.json')))['weight_map']
    assert set(index) == set(shapes)
    for name, file in reversed(index.items()):
        with safe_open(os.path.join(where, file), framework='numpy') as opened:
            assert (opened.get_tensor(name) == weight(name)).all()
def tokenizers():
    from tokenizers import Tokenizer
    assert Tokenizer.from_file(os.path.join(where, 'tokenizer.json')).encode('hello world').ids == [0, 1]
def transformers():
    from transformers import AutoConfig, AutoTokenizer
    assert AutoConfig.from_pretrained(where).hidden_size == HIDDEN
    assert AutoTokenizer.from_pretrained(where)('hello world hello')['input_ids'] == [0, 1, 0]
def from_pretrained():
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(where)
    for name, value in model.state_dict().items(): assert (value.numpy() == weight(name)).all(), name
    assert model(torch.tensor([[0, 1]])).logits.shape == (1, 2, VOCABULARY)
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
for read in (safetensors, tokenizers, transformers, from_pretrained, gguf, onnx):
    try: read(); print(read.__name__, 'right')
    except ImportError as error: print(read.__name__, 'absent:', error)
`;

/** Without torch, which comes with 5 GB of CUDA: the one of the machine is used, where there is one (PYTHONPATH). */
const PACKAGES = ['tokenizers', 'transformers', 'gguf', 'onnx'];
const site = mkdtempSync(join(tmpdir(), 'nymph-python-'));
after(() => rmSync(site, { recursive: true, force: true }));

/** Why not, or false. All at once, which is soonest; one package after another where a registry has not got them all. */
function noPython(): string | false {
  const pip = (...names: string[]) =>
    spawnSync('python3', ['-m', 'pip', 'install', '-q', '--no-warn-script-location', '--target', site, ...names], {
      stdio: 'ignore',
      env: { ...process.env, PYTHONPATH: '' },
      timeout: 120_000,
    }).status === 0;
  if (pip('numpy', 'safetensors', ...PACKAGES)) return false;
  if (!pip('numpy', 'safetensors')) return 'pip offers no numpy and safetensors';
  for (const name of PACKAGES) pip(name);
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
      run('python3', ['-c', script, where], {
        env: {
          PYTHONPATH: [site, process.env.PYTHONPATH ?? ''].join(':'),
          ...{ PYTHONDONTWRITEBYTECODE: '1', HF_HUB_OFFLINE: '1', TRANSFORMERS_VERBOSITY: 'error' },
        },
      });
    const written = await python(WRITE, truth);
    assert.equal(written.status, 0, written.err);
    await checkHeader(t, truth, python);
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

/** What is fetched ahead of a GGUF file ends where its reader has the tensors begin. */
async function checkHeader(
  t: TestContext,
  truth: string,
  python: (script: string, where: string) => Promise<Outcome>,
): Promise<void> {
  const path = join(truth, 'model.gguf');
  if (!existsSync(path)) return t.diagnostic('gguf absent: its header is not compared');
  const { out, err, status } = await python('import gguf, sys; print(gguf.GGUFReader(sys.argv[1]).data_offset)', path);
  assert.equal(status, 0, err);
  const bytes = readFileSync(path);
  const read = async (offset: number, length: number) => bytes.subarray(offset, offset + length);
  const [header] = await headerRanges('model.gguf', bytes.length, read);
  assert.equal(Math.ceil(header.length / 32) * 32, Number(out.toString()));
}
