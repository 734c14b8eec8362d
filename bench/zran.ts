/** Random reads in a large gzip layer, by inflate contexts: near its end as near its beginning. */
import { closeSync, openSync, readSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Status } from '../src/daemon/api.ts';
import type { Lab } from './lab.ts';
import { startNymph } from './nymph.ts';
import { dropCaches, type Place } from './place.ts';
import { shell } from './processes.ts';
import { median, type Trial } from './report.ts';
import { largeLayer } from './zran-image.ts';

const CHUNK = 1 << 20;
const READS = 10;

/** Each read is in a chunk of its own, which nobody has read before. */
export async function zranReads(
  lab: Lab,
  place: Place,
  { rounds, quick }: { rounds: number; quick: boolean },
  say: (line: string) => void,
): Promise<Trial> {
  say('making a gzip layer');
  const image = await largeLayer(place.kept, quick);
  const nymph = await startNymph(lab, join(place.scratch, 'zran'));
  const directory = join(place.scratch, 'zran-mount');
  await mkdir(directory);
  await nymph.command('mount', '--prefetch', 'none', `oci:${image.layout}:zran`, directory);
  const chunks = image.size / CHUNK;
  const eighth = Math.floor(chunks / 8);
  const near = shuffled(eighth);
  const far = shuffled(eighth).map((chunk) => chunks - 1 - chunk);
  const file = join(directory, 'data');
  const fetched = async () => {
    const { fetch } = JSON.parse(await nymph.command('status', '--json')) as Status;
    return Object.values(fetch.bytes).reduce((sum, bytes) => sum + bytes, 0);
  };
  const ratios: Record<'end' | 'start' | 'bytes', number[]> = { end: [], start: [], bytes: [] };
  for (let round = 0; round < rounds; round++) {
    await dropCaches();
    // Not the disk is measured: one place of it may be slower than another.
    await shell(`cat ${image.layer} >/dev/null`);
    const before = await fetched();
    const times: Record<'near' | 'far', number[]> = { near: [], far: [] };
    for (let i = 0; i < READS; i++) {
      // In turn, and in the other order each time.
      const both = [['near', near] as const, ['far', far] as const];
      if (i % 2 === 1) both.reverse();
      for (const [name, list] of both) times[name].push(readOnce(file, takeChunk(list) * CHUNK + CHUNK / 2));
    }
    const bytes = ((await fetched()) - before) / (2 * READS);
    const at = 512 + image.size - CHUNK / 2;
    const whole = await shell(`gzip -dc ${image.layer} 2>/dev/null | tail -c +${at} | head -c 4096`);
    ratios.end.push(median(times.far) / median(times.near));
    ratios.start.push(whole / median(times.far));
    ratios.bytes.push(bytes / CHUNK);
    say(
      `  round ${round + 1}: beginning ${median(times.near).toFixed(1)} ms, end ${median(times.far).toFixed(1)} ms, from the layer's start ${whole.toFixed(0)} ms, ${(bytes / 1024).toFixed(0)} KiB a read`,
    );
  }
  await nymph.stop();
  const name = `random 4 KiB reads in a gzip layer of ${image.size >> 20} MiB (ZRAN)`;
  return {
    name: 'zran',
    text: `**zran**: reads of 4 KiB, each in a chunk that is not here, in the last eighth of a gzip layer (ZRAN) against the first eighth, in turn; and against \`gzip -dc | tail | head\` of the same place, which decodes from the layer's start. The layer is in an OCI layout on the same machine, in the page cache; the image's cache is empty.`,
    rows: [
      {
        work: `${name}, near its end`,
        against: 'near its beginning',
        unit: 'time',
        ratios: ratios.end,
        goal: { most: 1.2 },
      },
      {
        work: `${name}, near its end`,
        against: 'decoding from its start',
        unit: 'sooner',
        ratios: ratios.start,
        goal: { least: 100 },
      },
      {
        work: `${name}: fetched for a read`,
        against: 'a chunk of 1 MiB',
        unit: 'bytes',
        ratios: ratios.bytes,
        goal: { most: 1 },
      },
    ],
  };
}

/** @returns ms */
function readOnce(path: string, offset: number): number {
  const buffer = Buffer.alloc(4096);
  const fd = openSync(path, 'r');
  const begun = performance.now();
  if (readSync(fd, buffer, 0, buffer.length, offset) !== buffer.length)
    throw new Error(`${path} ends before ${offset}`);
  const elapsed = performance.now() - begun;
  closeSync(fd);
  return elapsed;
}

function takeChunk(list: number[]): number {
  const chunk = list.pop();
  if (chunk === undefined) throw new Error('too many rounds for the size of the layer');
  return chunk;
}

function shuffled(count: number): number[] {
  const list = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}
