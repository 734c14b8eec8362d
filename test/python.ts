/** Compiled Python modules for tests, made without Python: as `py_compile` writes them, as far as imports go. */

const MAGIC = { 8: 3413, 11: 3495, 13: 3571 } as const;
const OPERATIONS = { 8: [108, 109, 144], 11: [108, 109, 144], 13: [75, 74, 71] } as const;

export type Minor = keyof typeof MAGIC;

/** `module` alone is `import module`; with names, `from module import …`. */
export interface Import {
  module: string;
  names?: string[];
}

/**
 * A `.pyc` file of Python 3.`minor`, whose module imports this, in this order, and has a function that imports `later`.
 * @param fill names that the code has before those, so that theirs need a wide argument
 */
export function compiledModule(
  minor: Minor,
  imports: readonly Import[],
  later: readonly Import[] = [],
  fill = 0,
): Buffer {
  const magic = Buffer.alloc(16);
  magic.writeUInt16LE(MAGIC[minor]);
  magic.write('\r\n', 2);
  return Buffer.concat([magic, code(minor, imports, [code(minor, later, [], 0)], fill)]);
}

function code(minor: Minor, imports: readonly Import[], constants: readonly Buffer[], fill: number): Buffer {
  const [importName, importFrom, extended] = OPERATIONS[minor];
  const names = Array.from({ length: fill }, (_, i) => `filler${i}`);
  const instructions: number[] = [];
  const operate = (operation: number, name: string) => {
    const index = names.includes(name) ? names.indexOf(name) : names.push(name) - 1;
    if (index > 0xff) instructions.push(extended, index >> 8);
    instructions.push(operation, index & 0xff);
  };
  for (const { module, names: from = [] } of imports) {
    operate(importName, module);
    for (const name of from) operate(importFrom, name);
  }
  const none = Buffer.from('N');
  // Constants of each kind that a compiler writes, then what is given; the first is referred to again.
  const kinds = [
    Buffer.from([0x69 | 0x80, 1, 0, 0, 0]),
    Buffer.from([0x72, 1, 0, 0, 0]),
    Buffer.from([0x67, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
    Buffer.from([0x6c, 2, 0, 0, 0, 1, 0, 1, 0]),
    tuple([text('x'), none]),
  ];
  const name = text('module');
  const locals = [tuple([]), minor >= 11 ? bytes(Buffer.alloc(0)) : tuple([])];
  return Buffer.concat([
    Buffer.from([0x63 | 0x80]),
    Buffer.alloc(minor >= 11 ? 20 : 24),
    bytes(Buffer.from(instructions)),
    tuple([...kinds, ...constants]),
    tuple(names.map(text)),
    ...locals,
    ...(minor >= 11 ? [] : [tuple([])]),
    name,
    name,
    ...(minor >= 11 ? [name] : []),
    Buffer.alloc(4),
    bytes(Buffer.alloc(2)),
    ...(minor >= 11 ? [bytes(Buffer.alloc(0))] : []),
  ]);
}

function bytes(content: Buffer): Buffer {
  return Buffer.concat([Buffer.from('s'), int(content.length), content]);
}

function text(value: string): Buffer {
  const head =
    value.length < 256 ? Buffer.from([0x7a, value.length]) : Buffer.concat([Buffer.from('a'), int(value.length)]);
  return Buffer.concat([head, Buffer.from(value)]);
}

function tuple(items: readonly Buffer[]): Buffer {
  const head =
    items.length < 256 ? Buffer.from([0x29, items.length]) : Buffer.concat([Buffer.from('('), int(items.length)]);
  return Buffer.concat([head, ...items]);
}

function int(value: number): Buffer {
  const four = Buffer.alloc(4);
  four.writeInt32LE(value);
  return four;
}
