/** Kinds of files of models, and subsets of them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { treeFiles } from '../../src/cli/tree-files.ts';
import { parseSubset } from '../../src/daemon/subset.ts';
import { isChosen, kindsOfFile, mayHoldChosen } from '../../src/formats/files/subset.ts';
import { kitPlans } from '../../src/formats/modelkit/manifest.ts';
import { modelPlans } from '../../src/formats/modelpack/manifest.ts';
import { run } from '../../src/mount/files-job.ts';
import { subsetDigest } from '../../src/mount/subset.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}` as const;

describe('subsets', () => {
  test('a file is what its name says, else what its layer says', () => {
    for (const [path, layer, kinds] of [
      ['config.json', undefined, ['config']],
      ['generation_config.json', 'weight.config', ['config']],
      ['tokenizer.json', 'weight.config', ['tokenizer']],
      ['tokenizer/vocab.txt', 'weight.config', ['tokenizer']],
      ['tokenizer.model', 'weight', ['tokenizer']],
      ['model.safetensors.index.json', 'weight.config', ['config', 'weights']],
      ['model-00001-of-00002.safetensors', undefined, ['weights']],
      ['Q4_K_M.gguf', undefined, ['weights']],
      ['unet/diffusion.bin', undefined, ['weights']],
      ['strange', 'weight', ['weights']],
      ['strange', undefined, []],
      ['README.md', undefined, ['doc']],
      ['LICENSE', undefined, ['doc']],
      ['train.py', undefined, ['code']],
      ['a.json', 'dataset', ['dataset']],
      ['train.parquet', undefined, ['dataset']],
    ] as const)
      assert.deepEqual(kindsOfFile(path, layer), kinds, `${path} of ${layer}`);
  });

  test('patterns mean names, or paths where they have a slash', () => {
    const chosen = (word: string, path: string) => isChosen([word], { path });
    assert.ok(chosen('*.json', 'a/b.json'));
    assert.ok(chosen('a/*.json', 'a/b.json'));
    assert.ok(!chosen('a/*.json', 'a/b/c.json'));
    assert.ok(chosen('a/**', 'a/b/c.json'));
    assert.ok(chosen('model-0000[12]-*', 'model-00002-of-3'));
    assert.ok(!chosen('*.json', 'a.jsonl'));
  });

  test('words that are no kind are refused, with the one that was meant', () => {
    assert.deepEqual(parseSubset('weights, config,*.md,config'), ['*.md', 'config', 'weights']);
    assert.throws(() => parseSubset('wieghts'), { code: 'usage', hint: /Is `weights` meant/ });
    assert.throws(() => parseSubset('everything'), { code: 'usage', hint: /Kinds are config, tokenizer/ });
    assert.throws(() => parseSubset(''), { code: 'usage' });
    assert.throws(() => parseSubset(Array.from({ length: 65 }, (_, i) => `${i}.*`).join()), { code: 'usage' });
  });

  test('tars that can hold nothing of it are not looked into', () => {
    const tar = (kind: string) =>
      modelPlans([{ mediaType: `application/vnd.cncf.model.${kind}.v1.tar+gzip`, digest: DIGEST, size: 1 }])[0];
    assert.ok(!mayHoldChosen(['dataset'], tar('doc')));
    assert.ok(!mayHoldChosen(['doc'], tar('weight.config')));
    assert.ok(mayHoldChosen(['weights'], tar('weight.config')));
    assert.ok(mayHoldChosen(['config'], tar('weight')));
    assert.ok(mayHoldChosen(['*.md'], tar('code')));
    const [kit] = kitPlans([{ mediaType: 'application/vnd.kitops.modelkit.model.v1.tar', digest: DIGEST, size: 1 }]);
    assert.ok(mayHoldChosen(['doc'], kit));
  });

  test('an image of a subset has its files and their objects alone; one of nothing is refused', () => {
    const listing = Buffer.from(
      JSON.stringify({
        schemaVersion: 1,
        files: ['config.json', 'README.md', 'model.safetensors'].map((path, i) => ({
          path,
          size: i + 10,
          location: path,
        })),
      }),
    );
    const loaded = (subset?: string[]) => run({ list: { listing, place: 'hub' }, name: 'hf://a/b', subset }).output;
    const { bootstrap, image } = loaded(['weights']);
    assert.deepEqual(
      treeFiles(bootstrap, true).map(({ path, blob }) => [path, blob]),
      [['model.safetensors', 0]],
    );
    assert.deepEqual(
      image.blobs.map(({ size }) => size),
      [12],
    );
    assert.equal(loaded().image.blobs.length, 3);
    assert.throws(() => loaded(['dataset']), { code: 'not-found', message: /no files of the subset dataset/ });
  });

  test('it has a name of its own', () => {
    assert.equal(subsetDigest(DIGEST, undefined), DIGEST);
    assert.notEqual(subsetDigest(DIGEST, ['config']), subsetDigest(DIGEST, ['weights']));
    assert.match(subsetDigest(DIGEST, ['config']), /^sha256:[0-9a-f]{64}$/);
  });
});
