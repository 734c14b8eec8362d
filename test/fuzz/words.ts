/** Words that texts of several targets are made of. */

/** What JSON may be made of, and names that every JavaScript object has. */
export const JSON_WORDS: readonly string[] = [
  ...[
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '"',
    'null',
    'true',
    'false',
    '{}',
    '[]',
    '""',
    '0',
    '-1',
    '1.5',
    '1e999',
    '9007199254740993',
  ],
  ...[
    '"__proto__"',
    '"constructor"',
    '"toString"',
    '"hasOwnProperty"',
    '"length"',
    '"\\u0000"',
    '"\\ud800"',
    '"/"',
    '".."',
  ],
  ...['[[[[[[[[', '{"a":{"a":{"a":', ',"__proto__":', '\\u0000', '\ufeff', '['.repeat(3000), '{"":'.repeat(3000)],
];

export const TOML_WORDS: readonly string[] = [
  ...[
    '[',
    ']',
    '[[',
    ']]',
    '=',
    '.',
    '"',
    "'",
    '"""',
    "'''",
    '#',
    '\n',
    ',',
    '{',
    '}',
    'true',
    'false',
    'inf',
    'nan',
    '1979-05-27',
  ],
  ...[
    '0x10',
    '1_000',
    '"\\u0000"',
    '__proto__',
    'constructor',
    '[a]',
    '[[a]]',
    'a = 1\n',
    '[__proto__]',
    '['.repeat(3000),
  ],
];

/** Names of fields in a template, to be put together with {@link JSON_WORDS}. */
export function quoted(...names: string[]): string[] {
  return names.map((name) => JSON.stringify(name));
}
