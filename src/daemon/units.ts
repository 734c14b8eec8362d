/** Sizes and durations as people write them in the configuration and on the command line. */

const SIZE_UNITS: Record<string, number> = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

const DURATION_UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Bytes of `"64MiB"`, `"1.5 GB"`, `"4096"`: a number and one of B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB
 * (powers of 1024); no unit means bytes. Units are spelled exactly, because `Mb` means bits to some.
 * @returns whole bytes, or `undefined` if the text is no size or above 2^53.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,16}(?:\.\d{1,9})?) ?([A-Za-z]*)$/.exec(text);
  if (match === null) return undefined;
  const unit = match[2] === '' ? 1 : Object.hasOwn(SIZE_UNITS, match[2]) ? SIZE_UNITS[match[2]] : Number.NaN;
  const bytes = Math.round(Number(match[1]) * unit);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/**
 * Milliseconds of `"60s"`, `"1m30s"`, `"250ms"`: whole numbers each with one of ms, s, m, h, d, largest unit first.
 * A bare number is no duration: it would be read as seconds by one and as milliseconds by another.
 * @returns milliseconds, or `undefined` if the text is no duration or above 2^31 - 1 ms (the limit of a timer).
 */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:\d{1,10}(?:ms|[smhd]))+$/.test(text)) return undefined;
  let total = 0;
  let last = Number.POSITIVE_INFINITY;
  for (const [, digits, name] of text.matchAll(/(\d+)(ms|[smhd])/g)) {
    const unit = DURATION_UNITS[name];
    if (unit >= last) return undefined;
    last = unit;
    total += Number(digits) * unit;
  }
  return total < 2 ** 31 ? total : undefined;
}

/** Bytes for a person: `0 B`, `1.5 KiB`, `64 MiB`, `1023 KiB`. Three significant digits, powers of 1024. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  while (Math.round(value) >= 1024 && unit < names.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value >= 999.5 ? Math.round(value) : Number(value.toPrecision(3))} ${names[unit]}`;
}

/** Milliseconds for a person: `85 ms`, `4.2 s`, `3m05s`, `2h10m`, `3d04h`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${Number((milliseconds / 1000).toFixed(1))} s`;
  const seconds = Math.round(milliseconds / 1000);
  const pad = (value: number) => String(value).padStart(2, '0');
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${pad(seconds % 60)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h${pad(minutes % 60)}m`;
  return `${Math.floor(minutes / 1440)}d${pad(Math.floor(minutes / 60) % 24)}h`;
}
