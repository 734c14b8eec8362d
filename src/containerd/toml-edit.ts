import { isDeepStrictEqual } from 'node:util';
import { parse } from 'smol-toml';
import { NymphError } from '../errors.ts';
import { type Statement, tomlStatements } from './toml-statements.ts';

/** A change of a TOML document. Values are as they stand in the text. */
export type Change =
  /** Sets keys of a table. */
  | { kind: 'set'; table: readonly string[]; values: Readonly<Record<string, TomlValue>> }
  /** Adds tables to an array of tables. */
  | { kind: 'append'; array: readonly string[]; tables: readonly Readonly<Record<string, TomlValue>>[] };

export type TomlValue = string | boolean | number;
type Table = Record<string, unknown>;

const BEGIN = '# nymph: begin';
const END = '# nymph: end';
/** Stands before a line as it was, so that it can be had back. */
const WAS = '# was:';

/**
 * Makes changes in a text, each between `# nymph: begin` and `# nymph: end`, with the lines that they replace kept as
 * comments. No other byte is touched.
 * @throws NymphError `unsupported` if the text is written in a way that cannot be changed so
 */
export function changeToml(text: string, changes: readonly Change[]): string {
  let result = text;
  const expected = parse(text) as Table;
  for (const change of changes) {
    result = change.kind === 'set' ? setValues(result, change) : appendTables(result, change, expected);
    apply(expected, change);
  }
  if (!isDeepStrictEqual(parsed(result), expected))
    throw new NymphError('unsupported', 'the file is written in a way that nymph cannot change without harm', {
      hint: 'Put the lines in by hand; `--dry-run` on an empty file shows them.',
    });
  return result;
}

/** Takes every change back. @throws NymphError `config` if a mark has no counterpart */
export function restoreToml(text: string): string {
  const kept: string[] = [];
  let inside = false;
  for (const line of text.split(/(?<=\n)/)) {
    const mark = line.trim();
    if (mark === BEGIN || mark === END) {
      if (inside === (mark === BEGIN))
        throw new NymphError('config', `the marks \`${BEGIN}\` and \`${END}\` in the file do not match`, {
          hint: 'Take nymph’s lines out by hand.',
        });
      inside = mark === BEGIN;
    } else if (!inside) kept.push(line);
    else if (line.startsWith(WAS)) kept.push(line.slice(WAS.length));
  }
  if (inside) throw new NymphError('config', `the mark \`${BEGIN}\` in the file has no \`${END}\``);
  return kept.join('');
}

function setValues(text: string, { table, values }: Change & { kind: 'set' }): string {
  const statements = tomlStatements(text);
  let result = text;
  const absent: string[] = [];
  const replaced: { statement: Statement; line: string }[] = [];
  for (const [key, value] of Object.entries(values)) {
    const line = `${tomlKey(key)} = ${tomlValue(value)}`;
    const statement = statements.find((one) => one.kind === 'pair' && isDeepStrictEqual(one.path, [...table, key]));
    if (statement) replaced.push({ statement, line });
    else absent.push(line);
  }
  // From the end on: what is in front keeps its place.
  for (const { statement, line } of replaced.sort((a, b) => b.statement.start - a.statement.start)) {
    const old = text.slice(statement.start, statement.end);
    const space = indentation(old);
    const inserted = isOurs(text, statement.start) ? `${space}${line}\n` : block([...was(old), space + line], space);
    result = splice(result, statement.start, statement.end, inserted);
  }
  if (absent.length === 0) return result;
  // Keys of no table stand before all tables.
  if (table.length === 0) return block(absent, '') + result;
  const header = tomlStatements(result).find((one) => one.kind === 'table' && isDeepStrictEqual(one.path, table));
  if (!header) return append(result, [`[${table.map(tomlKey).join('.')}]`, ...absent.map((line) => `  ${line}`)]);
  const space = `${indentation(result.slice(header.start, header.end))}  `;
  const end = result[header.end - 1] === '\n' ? '' : '\n';
  const added = absent.map((line) => space + line);
  const inserted = isOurs(result, header.start) ? `${added.join('\n')}\n` : block(added, space);
  return splice(result, header.end, header.end, end + inserted);
}

/** @param document what the text says */
function appendTables(text: string, { array, tables }: Change & { kind: 'append' }, document: Table): string {
  const inline = tomlStatements(text).find((one) => one.kind === 'pair' && isDeepStrictEqual(one.path, array));
  const present = inline && valueAt(document, array);
  if (inline && Array.isArray(present)) {
    const old = text.slice(inline.start, inline.end);
    const value = inlineToml([...present, ...tables]);
    const space = indentation(old);
    const line = `${space}${tomlKey(array.at(-1)!)} = ${value}`;
    return splice(text, inline.start, inline.end, block([...was(old), line], space));
  }
  const header = `[[${array.map(tomlKey).join('.')}]]`;
  return append(
    text,
    tables.flatMap((table) => [
      header,
      ...Object.entries(table).map(([key, value]) => `  ${tomlKey(key)} = ${tomlValue(value)}`),
    ]),
  );
}

/** What a parser must find once the change is made. */
function apply(document: Table, change: Change): void {
  const path = change.kind === 'set' ? change.table : change.array.slice(0, -1);
  let table = document;
  for (const key of path) {
    table[key] ??= asTable({});
    table = table[key] as Table;
    if (Array.isArray(table) || typeof table !== 'object') return;
  }
  if (change.kind === 'set') return void Object.assign(table, change.values);
  const name = change.array.at(-1)!;
  const old = table[name] ?? [];
  if (Array.isArray(old)) table[name] = [...old, ...change.tables.map(asTable)];
}

/** Whether a place is between our marks already: what is put there goes with the rest. */
function isOurs(text: string, offset: number): boolean {
  const before = text.slice(0, offset);
  return before.lastIndexOf(BEGIN) > before.lastIndexOf(END);
}

/** As the parser makes them: without a prototype. */
function asTable(values: object): Table {
  return Object.assign(Object.create(null), values);
}

function parsed(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

function append(text: string, added: readonly string[]): string {
  return text + (text === '' || text.endsWith('\n') ? '' : '\n') + block(added, '');
}

function block(content: readonly string[], space: string): string {
  return [`${space}${BEGIN}`, ...content, `${space}${END}`, ''].join('\n');
}

function was(text: string): string[] {
  return text
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => WAS + line);
}

function indentation(line: string): string {
  return /^[ \t]*/.exec(line)![0];
}

function splice(text: string, start: number, end: number, inserted: string): string {
  return text.slice(0, start) + inserted + text.slice(end);
}

function valueAt(document: unknown, path: readonly string[]): unknown {
  return path.reduce((value, key) => (value as Table | undefined)?.[key], document);
}

function inlineToml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(inlineToml).join(', ')}]`;
  if (typeof value !== 'object' || value === null || value instanceof Date) return tomlValue(value as TomlValue);
  const pairs = Object.entries(value).map(([key, one]) => `${tomlKey(key)} = ${inlineToml(one)}`);
  return pairs.length === 0 ? '{}' : `{ ${pairs.join(', ')} }`;
}

function tomlKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key);
}

function tomlValue(value: TomlValue): string {
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
