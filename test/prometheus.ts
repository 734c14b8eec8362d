/** Reads the text format of Prometheus as strictly as its own server does, for tests. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';

export interface Family {
  type: string;
  help: string;
  samples: { name: string; labels: Record<string, string>; value: number }[];
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const SAMPLE = new RegExp(`^(${NAME})(?:\\{((?:${NAME}="(?:[^"\\\\\\n]|\\\\["\\\\n])*",?)*)\\})? (\\S+)$`);
const LABEL = new RegExp(`(${NAME})="((?:[^"\\\\]|\\\\.)*)"`, 'g');

/** Metrics by name. Throws on what the format does not allow, and on histograms that are none. */
export function parseMetrics(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  assert.ok(text.endsWith('\n'), 'the last line has an end');
  let help: [string, string] | undefined;
  let family: [string, Family] | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment?.[1] === 'HELP') help = [comment[2], comment[3]];
    else if (comment?.[1] === 'TYPE') {
      assert.equal(help?.[0], comment[2], line);
      assert.ok(!families.has(comment[2]), `${comment[2]} stands twice`);
      family = [comment[2], { type: comment[3], help: help![1], samples: [] }];
      families.set(...family);
    } else {
      const match = SAMPLE.exec(line);
      assert.ok(match !== null && family !== undefined, `no sample: ${line}`);
      const suffixes = family[1].type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
      assert.ok(
        suffixes.some((suffix) => match[1] === family![0] + suffix),
        `${match[1]} below ${family[0]}`,
      );
      const labels = Object.fromEntries([...(match[2] ?? '').matchAll(LABEL)].map((label) => [label[1], label[2]]));
      const value = match[3] === '+Inf' ? Number.POSITIVE_INFINITY : Number(match[3]);
      assert.ok(!Number.isNaN(value), line);
      family[1].samples.push({ name: match[1], labels, value });
    }
  }
  for (const [name, { type, samples }] of families) {
    const keys = samples.map((sample) => sample.name + JSON.stringify(Object.entries(sample.labels).sort()));
    assert.equal(new Set(keys).size, keys.length, `${name} has a sample twice`);
    if (type === 'histogram') checkHistogram(name, samples);
    if (type === 'counter') assert.match(name, /_total$/, 'a counter’s name');
  }
  return families;
}

/** Of samples with these labels, the sum; 0 without any. */
export function sum(families: Map<string, Family>, name: string, labels: Record<string, string> = {}): number {
  const family = families.get(name.replace(/_(?:bucket|sum|count)$/, '')) ?? families.get(name);
  assert.ok(family, `no metric ${name}`);
  return family.samples
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
    .reduce((total, { value }) => total + value, 0);
}

/** Where promtool is, says what it says of a file or text; undefined where it is not. */
export function promtool(args: readonly string[], input?: string): { status: number | null; text: string } | undefined {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { input, encoding: 'utf8' });
  return error === undefined ? { status, text: stdout + stderr } : undefined;
}

function checkHistogram(name: string, samples: Family['samples']): void {
  const series = Map.groupBy(samples, ({ labels: { le, ...rest } }) => JSON.stringify(rest));
  for (const list of series.values()) {
    const buckets = list.filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels: { le } }) => (le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le)));
    assert.deepEqual(
      bounds,
      bounds.toSorted((a, b) => a - b),
    );
    assert.equal(bounds.at(-1), Number.POSITIVE_INFINITY, name);
    for (let i = 1; i < buckets.length; i++) assert.ok(buckets[i].value >= buckets[i - 1].value, name);
    assert.equal(list.find((sample) => sample.name === `${name}_count`)?.value, buckets.at(-1)!.value, name);
    assert.ok(list.some((sample) => sample.name === `${name}_sum`));
  }
}
