import { styleText } from 'node:util';
import type { Choice } from '../daemon/api.ts';

type Style = Parameters<typeof styleText>[0];

/** Text in a colour, if standard output is a terminal and NO_COLOR is not set. */
export function coloured(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** Text from elsewhere (references, annotations, messages) without control characters, which could drive a terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, '\ufffd');
}

/** Rows in columns as wide as their content; the first row is the heading. `right` holds columns with numbers. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const cells = rows.map((row) => row.map(printable));
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (right.includes(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
      .join('  ')
      .trimEnd(),
  );
  return [coloured('bold', lines[0]), ...lines.slice(1)].join('\n');
}

/** `name: value` lines with the values in one column; rows without a value are left out. */
export function fields(rows: readonly (readonly [name: string, value: string | undefined])[], indent = ''): string {
  const shown = rows.filter((row) => row[1] !== undefined) as [string, string][];
  const width = Math.max(0, ...shown.map(([name]) => name.length)) + 1;
  return shown.map(([name, value]) => `${indent}${`${name}:`.padEnd(width)} ${printable(value)}`).join('\n');
}

/** `1,234`. */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1 blob`, `1,234 blobs`. */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** Part of a whole as `43%`; 100% only if nothing is missing. */
export function percent(part: number, whole: number): string {
  return part >= whole ? '100%' : `${Math.floor((part / whole) * 100)}%`;
}

/** ` (…)` behind a reference that names an ordinary image, too: which one was taken. */
export function choiceText(choice: Choice | undefined, digest: string): string {
  if (choice === undefined) return '';
  const from = choice.by === 'index' ? 'from its index' : `which refers to ${choice.ordinary}`;
  return ` (its Nydus image ${digest}, ${from})`;
}
