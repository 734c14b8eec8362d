import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NymphError } from '../../src/errors.ts';
import { createAlternatives } from '../../src/sources/alternatives.ts';
import type { Source } from '../../src/sources/source.ts';

const never = new AbortController().signal;
const CONTENT = Buffer.from('the bytes of the object');

type Place = Source & { asked: number; distrusted: number };

function place(name: string, how?: () => AsyncIterable<Uint8Array>): Place {
  const made: Place = {
    name,
    asked: 0,
    distrusted: 0,
    async read(offset, length) {
      made.asked++;
      if (how !== undefined) return how();
      return (async function* () {
        yield CONTENT.subarray(offset, offset + length);
      })();
    },
    distrust() {
      made.distrusted++;
    },
  };
  return made;
}

function fails(retryable: boolean): () => never {
  return () => {
    throw new NymphError(retryable ? 'source' : 'not-found', 'it does not give it', { retryable });
  };
}

async function text(source: Source): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of await source.read(4, 5, never)) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

test('a place that was added later takes nothing from one that works, and one that fails has a substitute', async () => {
  const places: Source[] = [];
  const source = createAlternatives('blob x', places);
  const good = place('good');
  const bad = place('bad', fails(false));
  places.push(good, bad);
  assert.equal(await text(source), 'bytes');
  assert.deepEqual([good.asked, bad.asked], [1, 0]);
  const other = createAlternatives('blob x', [bad, good]);
  assert.equal(await text(other), 'bytes');
  assert.equal(await text(other), 'bytes');
  assert.equal(bad.asked, 1, 'the one that failed is asked last');
});

test('a place that was taken away is not asked', async () => {
  const places: Source[] = [];
  const source = createAlternatives('blob x', places);
  const gone = place('gone');
  places.push(gone, place('there'));
  assert.equal(source.name, 'gone');
  places.splice(places.indexOf(gone), 1);
  assert.equal(await text(source), 'bytes');
  assert.equal(gone.asked, 0);
  assert.equal(source.name, 'there');
});

test('where all fail the error is one that may pass, if there is one', async () => {
  const places: Source[] = [];
  const source = createAlternatives('blob x', places);
  places.push(place('absent', fails(false)));
  places.push(place('busy', fails(true)));
  places.push(place('denied', fails(false)));
  await assert.rejects(text(source), { code: 'source', retryable: true });
  await assert.rejects(text(createAlternatives('blob x', [])), { code: 'cancelled' });
});

test('a stream that breaks and bytes that are wrong are blamed on their sender', async () => {
  const places: Source[] = [];
  const source = createAlternatives('blob x', places);
  const breaks = place('breaks', async function* () {
    yield CONTENT.subarray(4, 5);
    fails(true)();
  });
  const lies = place('lies', async function* () {
    yield Buffer.from('bites');
  });
  const good = place('good');
  for (const each of [breaks, lies, good]) places.push(each);
  await assert.rejects(text(source), { code: 'source' });
  const wrong = await source.read(4, 5, never);
  source.distrust?.(wrong);
  assert.deepEqual([breaks.distrusted, lies.distrusted, good.distrusted], [0, 1, 0]);
  assert.equal(await text(source), 'bytes');
});

test('a place that others are to get the object from is the next one where the first refuses twice, or fails', async () => {
  const at = (host: string, fails = false): Source => ({
    ...place(host),
    async location(_, refusals) {
      if (fails) throw new NymphError('source', `${host} is away`, { retryable: true });
      return { url: new URL(`http://${host}/`), headers: { login: `${refusals}` }, certificates: [] };
    },
  });
  const places: Source[] = [];
  const source = createAlternatives('blob x', places);
  const signal = new AbortController().signal;
  const named = async (refusals: number) => {
    const found = await source.location!(signal, refusals);
    return found && `${found.url.host} ${found.headers.login}`;
  };
  const away = at('a', true);
  places.push(away, at('b'), at('c'));
  assert.equal(await named(0), 'b 0', 'one that fails is passed over');
  places.splice(places.indexOf(away), 1);
  assert.deepEqual(await Promise.all([0, 1, 2, 3, 4].map(named)), ['b 0', 'b 1', 'c 0', 'c 1', undefined]);
});
