/** Lines of context around a change. */
const CONTEXT = 3;

/** A unified diff of two texts, as diff(1) writes it; `''` if they are equal. */
export function unifiedDiff(before: string, after: string, name: string): string {
  if (before === after) return '';
  const rows = compare(linesOf(before), linesOf(after));
  const out = [`--- ${name}`, `+++ ${name}`];
  for (let at = 0; at < rows.length; ) {
    const first = rows.findIndex((row, i) => i >= at && row.mark !== ' ');
    if (first < 0) break;
    let last = first;
    for (let i = first; i < rows.length && i <= last + 2 * CONTEXT; i++) if (rows[i].mark !== ' ') last = i;
    const start = Math.max(at, first - CONTEXT);
    const end = Math.min(rows.length, last + CONTEXT + 1);
    const count = (from: number, to: number, mark: string) =>
      rows.slice(from, to).filter((row) => row.mark === ' ' || row.mark === mark).length;
    const place = (mark: string) => {
      const length = count(start, end, mark);
      const line = count(0, start, mark) + (length === 0 ? 0 : 1);
      return length === 1 ? `${line}` : `${line},${length}`;
    };
    out.push(`@@ -${place('-')} +${place('+')} @@`);
    for (const row of rows.slice(start, end)) {
      const whole = row.line.endsWith('\n');
      out.push(row.mark + (whole ? row.line.slice(0, -1) : `${row.line}\n\\ No newline at end of file`));
    }
    at = end;
  }
  return `${out.join('\n')}\n`;
}

interface Row {
  mark: ' ' | '-' | '+';
  line: string;
}

/** By the longest common subsequence; configuration files are short. */
function compare(before: readonly string[], after: readonly string[]): Row[] {
  const width = after.length + 1;
  const common = new Uint32Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--)
    for (let j = after.length - 1; j >= 0; j--)
      common[i * width + j] =
        before[i] === after[j]
          ? common[(i + 1) * width + j + 1] + 1
          : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
  const rows: Row[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      rows.push({ mark: ' ', line: before[i++] });
      j++;
    } else if (j >= after.length || (i < before.length && common[(i + 1) * width + j] >= common[i * width + j + 1]))
      rows.push({ mark: '-', line: before[i++] });
    else rows.push({ mark: '+', line: after[j++] });
  }
  return rows;
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.split(/(?<=\n)/);
}
