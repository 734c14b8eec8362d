import { createRequire } from 'node:module';
import { NymphError } from '../errors.ts';
import type { Info } from './snapshotter.ts';

/**
 * containerd's filter language, as far as snapshots go: `kind==active,labels."a.b/c"~=/re/`. Selectors of one filter must
 * all hold, of several filters one must match; no filter, or an empty one, matches all. Where containerd is lenient
 * (spaces before a token, parts after a plain field) so are we.
 */
export type Filter = (info: Info) => boolean;

/** @throws NymphError `usage` with the place of what cannot be read */
export function parseFilters(filters: readonly string[]): Filter {
  if (filters.length === 0) return () => true;
  const parsed = filters.map(parseFilter);
  return (info) => parsed.some((matches) => matches(info));
}

function parseFilter(text: string): Filter {
  if (text === '') return () => true;
  const scanner = createScanner(text);
  const selectors: Filter[] = [];
  do selectors.push(parseSelector(scanner));
  while (scanner.take(','));
  if (!scanner.atEnd()) throw scanner.wrong('a comma or the end was expected');
  return (info) => selectors.every((holds) => holds(info));
}

function parseSelector(scanner: Scanner): Filter {
  const path = [scanner.field()];
  while (scanner.take('.')) path.push(scanner.field());
  const operator = scanner.operator();
  if (operator === undefined) return (info) => valueAt(info, path) !== undefined;
  const value = scanner.value(operator);
  if (operator === '==') return (info) => valueAt(info, path) === value;
  // What is absent counts as empty for these two.
  if (operator === '!=') return (info) => (valueAt(info, path) ?? '') !== value;
  const expression = scanner.expression(value);
  return (info) => expression(valueAt(info, path) ?? '');
}

/** Plain fields are always there, even if empty. */
function valueAt(info: Info, [field, ...rest]: readonly string[]): string | undefined {
  if (field === 'name' || field === 'parent' || field === 'kind') return info[field];
  // A dotted key need not be quoted.
  const key = rest.join('.');
  return field === 'labels' && Object.hasOwn(info.labels, key) ? info.labels[key] : undefined;
}

const OPERATORS = ['==', '!=', '~='] as const;
type Operator = (typeof OPERATORS)[number];
type Scanner = ReturnType<typeof createScanner>;

const LETTERS: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
};

type Re2 = typeof import('re2js');
/** Loaded when needed: hardly any filter has an expression. */
let re2: Re2 | undefined;

function createScanner(text: string) {
  let at = 0;

  const wrong = (why: string) =>
    new NymphError('usage', `the filter ${JSON.stringify(text)} cannot be read: ${why} at character ${at + 1}`);

  function take(token: string): boolean {
    if (!text.startsWith(token, at)) return false;
    at += token.length;
    return true;
  }

  /** What a sticky expression matches from here. */
  function match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found !== null) at += found[0].length;
    return found;
  }

  function field(): string {
    match(/\s*/y);
    if (text[at] === '"') return quoted('"');
    const name = match(/[A-Za-z0-9_]+/y);
    if (name === null) throw wrong('a field was expected');
    return name[0];
  }

  function operator(): Operator | undefined {
    if (at === text.length || text[at] === ',') return undefined;
    match(/\s*/y);
    const found = OPERATORS.find((candidate) => take(candidate));
    if (found === undefined) throw wrong('an operator (==, != or ~=) was expected');
    return found;
  }

  function value(after: Operator): string {
    match(/\s*/y);
    const quote = text[at];
    if (quote === '"' || (after === '~=' && (quote === '/' || quote === '|'))) return quoted(quote);
    const plain = match(/[^\s,."/|=!~\p{C}][^\s,\p{C}]*/uy);
    if (plain === null) throw wrong('a value was expected');
    return plain[0];
  }

  function quoted(quote: string): string {
    // Escapes can name single bytes, as in Go.
    const bytes: Buffer[] = [];
    at++;
    for (;;) {
      if (take(quote)) return Buffer.concat(bytes).toString('utf8');
      const plain = match(/[^\\\n"/|]+|["/|]/y);
      if (plain !== null) bytes.push(Buffer.from(plain[0]));
      else if (text[at] === '\\') bytes.push(escaped(quote));
      else throw wrong('a quoted text does not end');
    }
  }

  function escaped(quote: string): Buffer {
    if (take(`\\${quote}`)) return Buffer.from(quote);
    const letter = match(/\\([abfnrtv\\])/y);
    if (letter !== null) return Buffer.from(LETTERS[letter[1]]);
    const byte = match(/\\(?:x([0-9A-Fa-f]{2})|([0-3][0-7]{2}))/y);
    if (byte !== null) return Buffer.from([byte[1] === undefined ? parseInt(byte[2], 8) : parseInt(byte[1], 16)]);
    const point = match(/\\(?:u([0-9A-Fa-f]{4})|U(00(?:0[0-9A-Fa-f]|10)[0-9A-Fa-f]{4}))/y);
    if (point !== null) return Buffer.from(String.fromCodePoint(parseInt(point[1] ?? point[2], 16)));
    throw wrong('an unknown escape');
  }

  /** As in Go: RE2, in a time that grows with the text alone. JavaScript's own would hold the thread for ever on `(a+)+$`. */
  function expression(source: string): (text: string) => boolean {
    re2 ??= createRequire(import.meta.url)('re2js') as Re2;
    try {
      const compiled = re2.RE2JS.compile(source);
      return (value) => compiled.matcher(value).find();
    } catch (error) {
      throw wrong(`${(error as Error).message}, before what is`);
    }
  }

  return { take, field, operator, value, expression, wrong, atEnd: () => at === text.length };
}
