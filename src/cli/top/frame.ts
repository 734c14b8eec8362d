import type { Live } from '../../daemon/api.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import { count, percent, plural, printable } from '../text.ts';
import type { ImageRate, Rates, SourceRate } from './rates.ts';

/** Cells of a bar. */
const BAR = 10;
const BLOCKS = ' ▁▂▃▄▅▆▇█';

/** The lines of one picture, none longer than `width` characters and no more of them than `height`. */
export function frame(live: Live, rates: Rates, width: number, height: number): string[] {
  const { health, cache, fetch } = live;
  const { reads } = rates;
  const all = reads.hits + reads.faults;
  const lines = [
    ends(
      `nymph ${health.version}  up ${formatDuration(health.uptime * 1000)}  ${plural(live.images.length, 'image')} mounted`,
      new Date(rates.time).toISOString().slice(11, 19),
      width,
    ),
    field(
      'cache',
      `${formatSize(cache.bytes)}${cache.quota === undefined ? '' : ` of ${formatSize(cache.quota)} (${percent(cache.bytes, cache.quota)})`}, ${plural(cache.evicted.blobs, 'blob')} evicted${cache.writable ? '' : ', NOT WRITABLE'}`,
    ),
    field(
      'reads',
      `${perSecond(all)}  ${formatSize(Math.round(reads.hitBytes))}/s from the cache  ${all > 0 ? percent(reads.hits, all) : '-'} hits`,
    ),
    field(
      'faults',
      `${perSecond(reads.faults)}  ${count(reads.waiting)} waiting  ${rates.faultMs === undefined ? 'none waited' : `half ≤ ${formatDuration(rates.faultMs.p50)}, 99% ≤ ${formatDuration(rates.faultMs.p99)}`}`,
    ),
    field('latency', latencyText(rates.latency)),
    field(
      'failed',
      `${count(fetch.failed)} reads  ${count(fetch.retries)} requests tried again  ${count(fetch.badChunks)} wrong chunks`,
    ),
    '',
    ...columns(
      [['SOURCE', 'BYTES/S', 'REQ/S', 'ERR/S', 'FIRST', 'TOTAL'], ...rates.sources.map(sourceRow)],
      [9, 7, 6, 7, 9],
      width,
    ),
    '',
    ...columns(
      [['IMAGE', 'READY', 'SIZE', '', 'FAULT/S', 'BYTES/S'], ...busiestFirst(rates.images).map(imageRow)],
      [5, 8, BAR, 7, 9],
      width,
    ),
  ];
  const shown = lines.slice(0, Math.max(1, height));
  // Clipped by characters, none of which is wider than a column here.
  return shown.map((line) => [...printable(line)].slice(0, width).join('').trimEnd());
}

function sourceRow({ name, bytes, requests, errors, firstByteMs, total }: SourceRate): string[] {
  return [
    name,
    formatSize(Math.round(bytes)),
    brief(requests),
    brief(errors),
    firstByteMs === undefined ? '-' : formatDuration(firstByteMs),
    formatSize(total),
  ];
}

function imageRow({ reference, ready, size, faults, bytes }: ImageRate): string[] {
  const filled = ready >= size ? BAR : Math.min(BAR - 1, Math.floor((ready / size) * BAR));
  const bar = '█'.repeat(filled) + '░'.repeat(BAR - filled);
  return [reference, percent(ready, size), formatSize(size), bar, brief(faults), formatSize(Math.round(bytes))];
}

/** Those that fetch most, then those that are least complete. */
function busiestFirst(images: readonly ImageRate[]): ImageRate[] {
  const missing = ({ size, ready }: ImageRate) => (size === 0 ? 0 : 1 - ready / size);
  return images.toSorted((a, b) => b.bytes - a.bytes || b.faults - a.faults || missing(b) - missing(a));
}

/** `≤1 ▁ ≤2 █ …`: how the faults in between are spread. */
function latencyText({ bounds, counts }: Rates['latency']): string {
  const most = Math.max(...counts);
  if (most <= 0) return '-';
  const bars = counts.map((value) => BLOCKS[value === 0 ? 0 : Math.max(1, Math.ceil((value / most) * 8))]).join('');
  return `${formatDuration(bounds[0])} |${bars}| ${formatDuration(bounds[bounds.length - 1])}`;
}

/** The first column takes what the others, right-aligned in `widths`, leave; long names lose their beginning. */
function columns(rows: readonly (readonly string[])[], widths: readonly number[], width: number): string[] {
  const left = Math.max(8, width - widths.reduce((sum, one) => sum + one + 1, 0));
  return rows.map(([name, ...cells]) => {
    const characters = [...printable(name)];
    const fitting = characters.length > left ? `…${characters.slice(1 - left).join('')}` : characters.join('');
    return [fitting.padEnd(left), ...cells.map((cell, i) => cell.padStart(widths[i]))].join(' ');
  });
}

function ends(left: string, right: string, width: number): string {
  return left + right.padStart(Math.max(right.length + 1, width - left.length));
}

function field(name: string, value: string): string {
  return `${name.padEnd(8)} ${value}`;
}

function perSecond(rate: number): string {
  return `${brief(rate)}/s`;
}

/** `0`, `0.4`, `12`, `1,234`. */
function brief(rate: number): string {
  return rate > 0 && rate < 9.95 ? String(Number(rate.toFixed(1))) : count(Math.round(rate));
}
