import { readFile } from 'node:fs/promises';
import { parse, TomlError } from 'smol-toml';
import { NymphError } from '../errors.ts';
import { statementLines } from './config-lines.ts';
import { SETTINGS, type Setting, wrongAddress } from './config-schema.ts';
import { nearest } from './nearest.ts';

/** `window_max` of the file is `windowMax` in the program. */
type Camel<S> = S extends `${infer A}_${infer B}` ? `${A}${Capitalize<Camel<B>>}` : S;
type Section<S> = { readonly [K in keyof S as Camel<K>]: S[K] extends Setting<infer T> ? T : never };

/** The settings in force. Sizes in bytes, times in milliseconds, paths absolute. Deeply frozen. */
export type Config = Section<(typeof SETTINGS)['top']> & {
  readonly [S in Exclude<keyof typeof SETTINGS, 'top'>]: Section<(typeof SETTINGS)[S]>;
};

export const DEFAULT_CONFIG_FILE = '/etc/nymph/config.toml';

/** What the command line says; stronger than the file. */
export interface ConfigOverrides {
  root?: string;
  address?: string;
  /** `fuse.driver`. */
  driver?: string;
}

type Table = Record<string, unknown>;
/** A finding: where (key path in the file) and what. */
type Finding = { path: string[]; message: string };

/**
 * Reads the settings. Without `file`, {@link DEFAULT_CONFIG_FILE} is read, and its absence means defaults; a `file` that
 * was named must exist.
 * @throws NymphError `config` with file, line and a suggestion for each thing that is wrong; all at once.
 */
export async function loadConfig(file: string | undefined, overrides: ConfigOverrides = {}): Promise<Config> {
  const name = file ?? DEFAULT_CONFIG_FILE;
  let text = '';
  try {
    text = await readFile(name, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (file !== undefined || code !== 'ENOENT')
      throw new NymphError('config', `cannot read ${name}: ${code ?? error}`, {
        hint: code === 'ENOENT' ? 'Name an existing file with --config.' : 'Check the file and its permissions.',
        cause: error,
      });
  }
  return parseConfig(text, name, overrides);
}

/** {@link loadConfig} for a text that is here already; `name` is for messages. */
export function parseConfig(text: string, name: string, overrides: ConfigOverrides = {}): Config {
  const document = parseToml(text, name);
  const findings: Finding[] = [];
  const values = readSections(document, findings);
  for (const key of ['root', 'address'] as const) if (overrides[key] !== undefined) values.top[key] = overrides[key];
  if (overrides.driver !== undefined) {
    const driver = SETTINGS.fuse.driver.read(overrides.driver);
    if ('wrong' in driver) throw new NymphError('usage', `--driver ${driver.wrong}`);
    values.fuse.driver = driver.value;
  }
  const tooLong = wrongAddress(String(values.top.address ?? ''));
  if (tooLong !== undefined && overrides.address !== undefined)
    throw new NymphError('usage', `--address ${tooLong}`, { hint: 'Take a shorter path.' });
  if (tooLong !== undefined) findings.push({ path: ['address'], message: `address ${tooLong}` });
  if (findings.length > 0) throw configError(text, name, findings);
  return complete(values);
}

function parseToml(text: string, name: string): Table {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const why = error.message.split('\n', 1)[0].replace(/^Invalid TOML document: /, '');
    throw new NymphError('config', `${name}:${error.line}:${error.column}: no valid TOML: ${why}`, { cause: error });
  }
}

/** Values by section and key, as far as the file has them. */
function readSections(document: Table, findings: Finding[]): Record<string, Table> {
  const values: Record<string, Table> = {};
  for (const section of Object.keys(SETTINGS)) values[section] = {};
  for (const [key, value] of Object.entries(document)) {
    if (key !== 'top' && Object.hasOwn(SETTINGS, key)) {
      if (isTable(value)) for (const name of Object.keys(value)) readSetting(key, name, value[name], values, findings);
      else findings.push({ path: [key], message: `${key} is a section; write [${key}] and its keys below` });
    } else readSetting('top', key, value, values, findings);
  }
  return values;
}

function readSetting(
  section: string,
  key: string,
  value: unknown,
  values: Record<string, Table>,
  findings: Finding[],
): void {
  const path = section === 'top' ? [key] : [section, key];
  const rows = (SETTINGS as Record<string, Record<string, Setting<unknown>>>)[section];
  if (!Object.hasOwn(rows, key)) {
    findings.push({ path, message: unknownKey(section, key, isTable(value)) });
    return;
  }
  const result = rows[key].read(value);
  if ('wrong' in result) findings.push({ path, message: `${path.join('.')} must be ${result.wrong}` });
  else values[section][key] = result.value;
}

function unknownKey(section: string, key: string, isSection: boolean): string {
  const sections = Object.keys(SETTINGS).filter((name) => name !== 'top');
  if (section === 'top' && isSection) {
    const meant = nearest(key, sections);
    return `unknown section [${key}]${meant === undefined ? '' : `; did you mean [${meant}]?`}`;
  }
  const rows = SETTINGS as Record<string, object>;
  const where = section === 'top' ? 'outside of sections' : `in [${section}]`;
  const meant = nearest(key, Object.keys(rows[section]));
  if (meant !== undefined) return `unknown key "${key}" ${where}; did you mean "${meant}"?`;
  const home = Object.keys(rows).find((name) => Object.hasOwn(rows[name], key));
  if (home === undefined) return `unknown key "${key}" ${where}`;
  return `unknown key "${key}" ${where}; it belongs ${home === 'top' ? 'above all sections' : `in [${home}]`}`;
}

function configError(text: string, name: string, findings: Finding[]): NymphError {
  const lines = statementLines(
    text,
    findings.map((finding) => finding.path),
  );
  const messages = findings
    .map((finding, i) => ({ line: lines[i], message: `${name}:${lines[i]}: ${finding.message}` }))
    .sort((a, b) => a.line - b.line)
    .map((finding) => finding.message);
  const hint = 'Every key is described in docs/configuration.md.';
  return new NymphError('config', messages.join('\n'), { hint });
}

/** Fills in defaults, names keys as the program does, freezes. */
function complete(values: Record<string, Table>): Config {
  const top = { ...section('top', values.top) } as unknown as Section<(typeof SETTINGS)['top']>;
  const config: Table = { ...top };
  for (const name of Object.keys(SETTINGS)) if (name !== 'top') config[name] = section(name, values[name], top);
  return Object.freeze(config) as Config;
}

function section(name: string, values: Table, top?: Section<(typeof SETTINGS)['top']>): Table {
  const rows = (SETTINGS as Record<string, Record<string, Setting<unknown>>>)[name];
  const result: Table = {};
  for (const [key, row] of Object.entries(rows)) {
    const camel = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const value = Object.hasOwn(values, key)
      ? values[key]
      : typeof row.default === 'function'
        ? row.default(top)
        : row.default;
    result[camel] = Array.isArray(value) ? Object.freeze(value) : value;
  }
  return Object.freeze(result);
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
