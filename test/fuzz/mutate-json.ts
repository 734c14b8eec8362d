import type { Random } from './random.ts';

const SEPARATOR = '\n--\n';
const VALUES: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -1,
    1.5,
    1e300,
    2 ** 53,
    '',
    'x',
    '/',
    '..',
    '\0',
    '\ud800',
    '__proto__',
    [],
    {},
    [null],
    [[]],
  ],
  ...[{ a: null }, 'x'.repeat(5000), ['x', 1, {}]],
];
const KEYS: readonly string[] = ['__proto__', 'constructor', 'toString', '', 'a', 'length'];

type Holder = Record<string, unknown> | unknown[];

/**
 * Changes one value of a JSON document: bytes that are changed anywhere mostly make no JSON. Of several documents, with
 * lines `--` between, one is changed; a line before it stays (`scripted-network.ts`).
 * @returns undefined where there is no JSON
 */
export function mutateJson(text: string, random: Random): string | undefined {
  const documents = text.split(SEPARATOR);
  const chosen = random.int(documents.length);
  const start = documents[chosen].search(/[[{]/);
  if (start < 0) return undefined;
  let top: unknown;
  try {
    top = JSON.parse(documents[chosen].slice(start));
  } catch {
    return undefined;
  }
  const holders: Holder[] = [];
  collect(top, holders);
  if (holders.length === 0) return undefined;
  change(random.pick(holders), holders, random);
  documents[chosen] = documents[chosen].slice(0, start) + JSON.stringify(top);
  return documents.join(SEPARATOR);
}

function collect(value: unknown, into: Holder[]): void {
  if (typeof value !== 'object' || value === null) return;
  into.push(value as Holder);
  for (const below of Object.values(value)) collect(below, into);
}

function change(holder: Holder, holders: readonly Holder[], random: Random): void {
  const keys = Object.keys(holder);
  const key = keys.length === 0 ? undefined : random.pick(keys);
  const object = holder as Record<string, unknown>;
  const kind = random.int(6);
  if (kind === 0 && key !== undefined) {
    if (Array.isArray(holder)) holder.splice(Number(key), 1);
    else delete object[key];
  } else if (kind === 1) {
    const given = structuredClone(random.oneIn(2) ? random.pick(VALUES) : random.pick(holders));
    if (Array.isArray(holder)) holder.push(given);
    else define(object, random.pick(KEYS), given);
  } else if (kind === 2 && key !== undefined && Array.isArray(holder))
    holder.push(structuredClone(holder[Number(key)]));
  else if (kind === 3 && key !== undefined) {
    const other = random.pick(holders);
    const values = Object.values(other);
    if (values.length > 0) define(object, key, structuredClone(random.pick(values)));
  } else if (key !== undefined) define(object, key, structuredClone(random.pick(VALUES)));
}

/** As JSON.parse does it: `__proto__` is a key like others. */
function define(object: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}
