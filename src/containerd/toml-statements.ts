/** Where the statements of a TOML text stand: for changing one and leaving every other byte alone. */
export interface Statement {
  /** `[a.b]`, `[[a.b]]`, or `key = value`. */
  readonly kind: 'table' | 'array' | 'pair';
  /** From the document's root: that of a pair has the table that it is in. */
  readonly path: readonly string[];
  /** Offsets of its first line's begin and its last line's end, line breaks included. */
  readonly start: number;
  readonly end: number;
}

const BARE = /[A-Za-z0-9_-]+/y;
const SPACE = /[ \t]*/y;
/** White space, line breaks and comments. */
const BETWEEN = /(?:[ \t\r\n]|#[^\n]*)*/y;
const STRINGS = [/"""(?:[^\\]|\\[\s\S])*?"{3,5}/y, /'''[\s\S]*?'{3,5}/y, /"(?:[^"\\\n]|\\.)*"/y, /'[^'\n]*'/y] as const;
/** Numbers, dates, booleans: up to what ends a value. */
const PLAIN = /[^\s,\]}#]+(?: \d[^\s,\]}#]*)?/y;

/**
 * The statements of a text that a TOML parser has accepted, in order. What this reader does not understand ends the list:
 * whoever changes a text by it must compare what a parser makes of it before and after.
 */
export function tomlStatements(text: string): Statement[] {
  const statements: Statement[] = [];
  let table: readonly string[] = [];
  let at = 0;

  const skip = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at = pattern.lastIndex;
    return match?.[0];
  };
  const key = (): string[] | undefined => {
    const parts: string[] = [];
    for (;;) {
      skip(SPACE);
      const quoted = skip(STRINGS[2]) ?? skip(STRINGS[3]);
      const part = quoted === undefined ? skip(BARE) : unquoted(quoted);
      if (part === undefined) return undefined;
      parts.push(part);
      skip(SPACE);
      if (text[at] !== '.') return parts;
      at++;
    }
  };
  const value = (): boolean => {
    skip(SPACE);
    const close = { '[': ']', '{': '}' }[text[at]];
    if (close === undefined) return STRINGS.some((pattern) => skip(pattern) !== undefined) || skip(PLAIN) !== undefined;
    at++;
    for (;;) {
      skip(BETWEEN);
      if (text[at] === close) {
        at++;
        return true;
      }
      if (text[at] === ',') at++;
      else if (close === '}') {
        if (!key() || text[at++] !== '=' || !value()) return false;
      } else if (!value()) return false;
    }
  };
  const statement = (): { kind: Statement['kind']; path: readonly string[] } | undefined => {
    const brackets = text.startsWith('[[', at) ? 2 : text[at] === '[' ? 1 : 0;
    at += brackets;
    const path = key();
    if (!path) return undefined;
    if (brackets > 0) {
      if (!text.startsWith(']'.repeat(brackets), at)) return undefined;
      at += brackets;
      table = path;
      return { kind: brackets === 2 ? 'array' : 'table', path };
    }
    if (text[at++] !== '=' || !value()) return undefined;
    return { kind: 'pair', path: [...table, ...path] };
  };

  for (;;) {
    skip(BETWEEN);
    if (at >= text.length) return statements;
    const start = text.lastIndexOf('\n', at - 1) + 1;
    const found = statement();
    if (!found) return statements;
    const newline = text.indexOf('\n', at);
    at = newline < 0 ? text.length : newline + 1;
    statements.push({ ...found, start, end: at });
  }
}

function unquoted(text: string): string | undefined {
  if (text.startsWith("'")) return text.slice(1, -1);
  try {
    return JSON.parse(text) as string;
  } catch {
    // An escape that only TOML has: no name that we look for has one.
    return undefined;
  }
}
