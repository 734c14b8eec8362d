/** What is fetched of a model before anybody reads it, and in which order. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { createReadyMap, type ReadyMap, setReady } from '../../src/cache/ready-map.ts';
import type { AttachedImage } from '../../src/mount/attach.ts';
import { fetchModel } from '../../src/mount/fill.ts';
import { fetchHeaders } from '../../src/mount/headers.ts';
import type { ServedBlob, ServedBlobs } from '../../src/mount/served.ts';
import { createThreadPool } from '../../src/threads/pool.ts';

const MIB = 1 << 20;
const never = new AbortController().signal;

interface Made {
  path: string;
  size: number;
  content?: Buffer;
  ready?: [offset: number, length: number][];
  reader?: ServedBlob['seen']['reader'];
  fails?: boolean;
}

/** A model whose fetchers write down what they are asked for; nothing of it is ever more here than at first. */
function model(files: Made[]) {
  const asked: string[] = [];
  let active = 0;
  let most = 0;
  const blobs = files.map(({ path, size, ready = [], reader, fails }) => {
    const map: ReadyMap = createReadyMap(size);
    for (const [offset, length] of ready) setReady(map, offset, length);
    const bring = async (what: string) => {
      most = Math.max(most, ++active);
      await othersTurn();
      active--;
      if (fails) throw new Error(`${path} is gone`);
      asked.push(what);
    };
    return {
      cached: { size, ready: map },
      seen: { reader },
      fetcher: {
        gather: (ranges: { offset: number; length: number }[]) =>
          bring(ranges.map(({ offset, length }) => `${path} ${offset}+${length}`).join()),
        fill: (offset: number, length: number) => bring(`${path} ${offset / MIB}…${(offset + length) / MIB}`),
      },
    };
  });
  const image = { blobs, stored: { blobs: files.map(({ path }) => ({ path })) } } as unknown as AttachedImage;
  const served = {
    read: async (blob: unknown, offset: number, length: number) => {
      const { content = Buffer.alloc(0) } = files[blobs.indexOf(blob as never)];
      return [Buffer.concat([content, Buffer.alloc(MIB)]).subarray(offset, offset + length)];
    },
  } as unknown as ServedBlobs;
  return { image, served, asked, most: () => most };
}

const names = (asked: string[]) => asked.map((what) => what.split(' ')[0]);

async function fillAll(t: TestContext, files: Made[]): Promise<string[]> {
  const { image, served, asked } = model(files);
  const pool = createThreadPool(1);
  t.after(() => pool.close());
  await fetchModel(image, served, false, { log: () => {}, pool }, never);
  return asked.filter((what) => what.includes('…'));
}

test('small files of a model are sent for a few at a time, so that readers need not wait behind thousands', async () => {
  const files = Array.from({ length: 1_000 }, (_, i) => ({ path: `${i}.json`, size: 1_000, fails: i === 3 }));
  const { image, served, asked, most } = model(files);
  await assert.rejects(fetchHeaders(image, served, false, never), /3.json is gone/);
  assert.equal(names(asked).filter((name) => name.endsWith('.json')).length, 999);
  assert.ok(most() > 1 && most() <= 32, `${most()} at once`);
});

test('that ends with the mount', async () => {
  const { image, served, asked } = model([{ path: 'a', size: 10 }]);
  await fetchHeaders(image, served, false, AbortSignal.abort());
  assert.deepEqual(asked, []);
});

test('of very many small files the smallest are fetched unasked, 256 MiB in all', async () => {
  const files = Array.from({ length: 1_000 }, (_, i) => ({ path: `data-${i}`, size: MIB + 1000 - i }));
  const { image, served, asked } = model([...files, { path: 'config.json', size: 500 }]);
  await fetchHeaders(image, served, false, never);
  assert.equal(asked[0], 'config.json 0+500');
  assert.ok(asked.length > 200 && asked.length < 257, `${asked.length} files`);
});

test('small files come first, then tokenizers and indexes of any size, then the headers of weights', async () => {
  const header = Buffer.alloc(20, '{');
  header.writeBigUInt64LE(BigInt(3 * MIB));
  const { image, served, asked } = model([
    { path: 'a.safetensors', size: 900 * MIB, content: header },
    { path: 'x/tokenizer.json', size: 17 * MIB },
    { path: 'model.safetensors.index.json', size: 9 * MIB },
    { path: 'graph.onnx', size: 5 * MIB },
    { path: 'weights.onnx', size: 500 * MIB },
    { path: 'data.json', size: 50 * MIB },
    { path: 'config.json', size: 700 },
  ]);
  await fetchHeaders(image, served, false, never);
  assert.deepEqual(asked.slice(0, 1), ['config.json 0+700']);
  assert.deepEqual(asked.slice(1, 4).sort(), [
    `graph.onnx 0+${5 * MIB}`,
    `model.safetensors.index.json 0+${9 * MIB}`,
    `x/tokenizer.json 0+${17 * MIB}`,
  ]);
  const heads = ['a.safetensors', 'data.json', 'weights.onnx'].map((name) => `${name} 0+${MIB}`);
  assert.deepEqual(
    asked
      .slice(4)
      .filter((what) => what !== '')
      .sort(),
    [...heads, `a.safetensors 0+${3 * MIB + 8}`].sort(),
  );
});

test('a header that lies does not end the others', async () => {
  const { image, served, asked } = model([
    {
      path: 'a.gguf',
      size: 900 * MIB,
      content: Buffer.from('GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff', 'latin1'),
    },
    { path: 'b.bin', size: 900 * MIB },
  ]);
  await fetchHeaders(image, served, false, never);
  assert.deepEqual(names(asked.filter((what) => what !== '')).sort(), ['a.gguf', 'b.bin']);
});

test('the rest comes by the index of the shards, whatever its size, then by path; what is here is passed over', async (t) => {
  const index = Buffer.from(
    JSON.stringify({ weight_map: { a: 'two.safetensors', b: 'one.safetensors' } }).padEnd(5 * MIB),
  );
  const asked = await fillAll(t, [
    { path: 'x/one.safetensors', size: 40 * MIB },
    { path: 'part-10', size: 40 * MIB, ready: [[0, 33 * MIB]] },
    { path: 'part-9', size: 40 * MIB, ready: [[0, 40 * MIB]] },
    { path: 'x/two.safetensors', size: 70 * MIB, ready: [[32 * MIB, 32 * MIB]] },
    { path: 'x/model.safetensors.index.json', size: index.length, content: index, ready: [[0, index.length]] },
  ]);
  assert.deepEqual(asked, [
    'x/two.safetensors 0…32',
    'x/two.safetensors 64…70',
    'x/one.safetensors 0…32',
    'x/one.safetensors 32…40',
    'part-10 32…40',
  ]);
});

test('where readers are comes first', async (t) => {
  const asked = await fillAll(t, [
    { path: 'a', size: 100 * MIB },
    { path: 'b', size: 100 * MIB, reader: { offset: 60 * MIB, at: Date.now(), filled: 60 * MIB } },
  ]);
  assert.deepEqual(asked.slice(0, 2), ['b 60…92', 'b 92…100']);
  assert.equal(asked[2], 'a 0…32');
});

test('of a file of terabytes that is here nothing is counted, and others have their turn meanwhile', async (t) => {
  const size = 2 ** 40;
  let turns = 0;
  let counting: NodeJS.Immediate;
  const count = () => {
    turns++;
    counting = setImmediate(count);
  };
  count();
  t.after(() => clearImmediate(counting));
  const asked = await fillAll(t, [{ path: 'a', size, ready: [[0, size - 40 * MIB]] }]);
  assert.deepEqual(asked, [`a ${2 ** 20 - 64}…${2 ** 20 - 32}`, `a ${2 ** 20 - 32}…${2 ** 20}`]);
  assert.ok(turns > 10, `${turns} turns`);
});

test('a file that cannot be had does not keep the others away', async (t) => {
  const { image, served, asked } = model([
    { path: 'a', size: 70 * MIB, fails: true },
    { path: 'b', size: 70 * MIB },
  ]);
  const pool = createThreadPool(1);
  t.after(() => pool.close());
  await assert.rejects(fetchModel(image, served, false, { log: () => {}, pool }, never), /a is gone/);
  assert.deepEqual(
    asked.filter((what) => what.includes('…')),
    ['b 0…32', 'b 32…64', 'b 64…70'],
  );
});
