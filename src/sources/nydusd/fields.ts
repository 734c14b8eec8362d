import { NymphError } from '../../errors.ts';

/** A key that does nothing in nymph, and why. */
export interface IdleKey {
  /** From the top of the document: `device.cache.config.work_dir`. */
  key: string;
  why: string;
}

/**
 * One object of a configuration. Each read checks the type and notes that the key counts; `null` is as good as absent.
 * Errors name the key and never its value, which may be a secret.
 */
export interface Fields {
  /** Of the object itself, `''` for the document. */
  readonly path: string;
  /** A text; an empty one is as good as absent, as nydusd has it. */
  text(name: string): string | undefined;
  /** @throws NymphError `config` if it is absent or empty */
  needed(name: string, hint?: string): string;
  flag(name: string): boolean | undefined;
  integer(name: string, max: number): number | undefined;
  texts(name: string): string[];
  object(name: string): Fields | undefined;
  objects(name: string): Fields[];
  /** Of all keys that are there. */
  names(): string[];
  /** Reports every key that was not read. @param reasons why, by key; others are unknown */
  idle(reasons: Record<string, string>): void;
  wrong(name: string, why: string, hint?: string): NymphError;
}

/** @param file for errors; @param found where keys without effect are put */
export function fieldsOf(value: unknown, file: string, path: string, found: IdleKey[]): Fields {
  const join = (name: string) => (path === '' ? name : `${path}.${name}`);
  const wrong = (name: string, why: string, hint?: string) =>
    new NymphError('config', `${file}: ${join(name)} ${why}`, { hint });
  if (!isObject(value)) throw new NymphError('config', `${file}: ${path || 'the document'} is not an object`);
  const seen = new Set<string>();
  const get = (name: string): unknown => {
    seen.add(name);
    return Object.hasOwn(value, name) ? (value[name] ?? undefined) : undefined;
  };
  const text = (name: string): string | undefined => {
    const given = get(name);
    if (given === undefined || given === '') return undefined;
    if (typeof given !== 'string') throw wrong(name, 'is not a text');
    if (/[\0-\x1f\x7f]/.test(given)) throw wrong(name, 'has control characters');
    return given;
  };
  const list = (name: string): unknown[] => {
    const given = get(name) ?? [];
    if (!Array.isArray(given)) throw wrong(name, 'is not a list');
    return given;
  };
  return {
    path,
    wrong,
    text,
    needed(name, hint) {
      const given = text(name);
      if (given === undefined) throw wrong(name, 'is missing', hint);
      return given;
    },
    flag(name) {
      const given = get(name);
      if (given !== undefined && typeof given !== 'boolean') throw wrong(name, 'is not true or false');
      return given;
    },
    integer(name, max) {
      const given = get(name);
      if (given === undefined) return undefined;
      if (!Number.isSafeInteger(given) || (given as number) < 0 || (given as number) > max)
        throw wrong(name, `is not a whole number from 0 to ${max}`);
      return given as number;
    },
    texts(name) {
      return list(name).map((entry) => {
        if (typeof entry !== 'string' || entry === '' || entry.includes('\0'))
          throw wrong(name, 'is not a list of texts');
        return entry;
      });
    },
    object(name) {
      const given = get(name);
      return given === undefined ? undefined : fieldsOf(given, file, join(name), found);
    },
    objects: (name) => list(name).map((entry, i) => fieldsOf(entry, file, `${join(name)}[${i}]`, found)),
    names: () => Object.keys(value),
    idle(reasons) {
      for (const name of Object.keys(value)) {
        if (seen.has(name)) continue;
        const why = Object.hasOwn(reasons, name) ? reasons[name] : 'nymph does not know this key';
        found.push({ key: join(name), why });
      }
    },
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
