/** One line of the table: a ratio of paired runs, and what it should be. */
export interface Row {
  work: string;
  against: string;
  /** Of what to what, for a reader of the table: `time`, `throughput`, `sooner`, `bytes`. */
  unit: string;
  /** One ratio for each round. */
  ratios: number[];
  goal: { most: number } | { least: number };
}

export interface Trial {
  /** For `--only`. */
  name: string;
  /** What is measured and how, one paragraph. */
  text: string;
  rows: Row[];
}

/** The middle value; the mean of the two middle ones of an even number. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

export function isMet({ ratios, goal }: Row): boolean {
  const value = median(ratios);
  return 'most' in goal ? value <= goal.most : value >= goal.least;
}

/** Markdown: the table, then a paragraph for each trial. */
export function markdown(trials: readonly Trial[], machine: readonly string[]): string {
  const lines = ['| work | against | median | range | goal | met |', '|---|---|---|---|---|---|'];
  for (const row of trials.flatMap((trial) => trial.rows)) {
    const range = `${number(Math.min(...row.ratios))}–${number(Math.max(...row.ratios))}`;
    const goal = 'most' in row.goal ? `≤ ${row.goal.most}` : `≥ ${row.goal.least}`;
    const value = `${number(median(row.ratios))} × ${row.unit}`;
    lines.push(`| ${row.work} | ${row.against} | ${value} | ${range} | ${goal} | ${isMet(row) ? 'yes' : '**no**'} |`);
  }
  for (const { text } of trials) lines.push('', text);
  lines.push('', `Machine: ${machine.join('; ')}.`);
  return lines.join('\n');
}

function number(value: number): string {
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
