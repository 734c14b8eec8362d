import { styleText } from 'node:util';

const COLOURS = { debug: 'gray', info: 'green', warn: 'yellow', error: 'red', fatal: 'red' } as const;

/**
 * A JSON log line as one line for people: `12:40:01.123 WARN  source is slow  source=registry.example ms=812`.
 * Time is local. Nested values stay JSON; an error is its message, its hint and its cause.
 */
export function textLine(line: string, colours: boolean): string {
  const { time, level, msg, error, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const style = (name: Parameters<typeof styleText>[0], text: string) =>
    colours ? styleText(name, text, { validateStream: false }) : text;
  const label = String(level);
  const parts = [
    style('gray', clock(String(time))),
    style(COLOURS[label as keyof typeof COLOURS] ?? 'red', label.toUpperCase().padEnd(5)),
    oneLine(String(msg ?? '')),
  ];
  const failure = error ?? err;
  if (failure !== undefined) parts.push(style('red', errorText(failure)));
  for (const [key, value] of Object.entries(fields)) parts.push(`${style('cyan', key)}=${valueText(value)}`);
  return `${parts.filter((part) => part !== '').join('  ')}\n`;
}

function clock(time: string): string {
  const date = new Date(time);
  const pad = (value: number, width = 2) => String(value).padStart(width, '0');
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

function errorText(error: unknown): string {
  if (typeof error !== 'object' || error === null) return valueText(error);
  const { code, message, hint, cause, stack } = error as Record<string, unknown>;
  const parts = [code === undefined ? message : `${message} (${code})`, cause && `because ${cause}`, hint, stack];
  return oneLine(parts.filter(Boolean).join('; '));
}

function valueText(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"=\p{Cc}]+$/u.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value);
}

/** Line breaks and control characters would break the line or the terminal. */
function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' | ').replace(/\p{Cc}/gu, ' ');
}
