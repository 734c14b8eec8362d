/**
 * Python's marshal format, as far as it takes to find the module's own code in a `.pyc` file: every object is walked
 * over, and of the outermost code object the instructions and names are kept. Source: CPython, Python/marshal.c.
 */

/** The code of a module: what runs when it is imported. */
export interface ModuleCode {
  /** Instructions of two bytes each: operation and argument. */
  instructions: Uint8Array;
  /** What arguments of import instructions count in. */
  names: string[];
}

/** Objects within objects: far more than compilers write, far less than the stack holds. */
const MOST_NESTED = 200;
/** Bytes of a text: longer than the name of any module, and a thousand statements may mean the same one. */
const MOST_TEXT = 1024;
const REF = 0x80;
const NOT_TEXT = '';

/**
 * @param bytes the marshalled module, behind the header of the file
 * @param minor of Python 3: code objects differ
 * @returns undefined if it is none, or not well-formed
 */
export function readModuleCode(bytes: Uint8Array, minor: number): ModuleCode | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** Texts that are referred to later; other objects have their place only. */
  const refs: string[] = [];
  let at = 0;
  let found: ModuleCode | undefined;

  function skip(length: number): number {
    const start = at;
    if (length < 0 || length > bytes.length - start) throw new RangeError('beyond the end');
    at += length;
    return start;
  }

  const byte = () => bytes[skip(1)];
  const int = () => view.getInt32(skip(4), true);

  function data(length: number): Uint8Array {
    const start = skip(length);
    return bytes.subarray(start, start + length);
  }

  function text(length: number): string {
    const found = data(length);
    return length > MOST_TEXT ? NOT_TEXT : Buffer.from(found).toString('utf8');
  }

  /** @returns texts of the items; others are empty */
  function items(count: number, depth: number): string[] {
    // Each takes a byte at least: a count of billions is no reason for an array of that size.
    if (count < 0 || count > bytes.length - at) throw new RangeError('too many items');
    return Array.from({ length: count }, () => object(depth + 1));
  }

  /** Walks over one object. @returns its text, if it is one */
  function object(depth: number): string {
    if (depth > MOST_NESTED) throw new RangeError('nested too deeply');
    const head = byte();
    const place = head & REF ? refs.push(NOT_TEXT) - 1 : -1;
    const value = content(String.fromCharCode(head & ~REF), depth);
    if (place >= 0) refs[place] = value;
    return value;
  }

  function content(type: string, depth: number): string {
    switch (type) {
      case 'N':
      case 'T':
      case 'F':
      case 'S':
      case '.':
        return NOT_TEXT;
      case 'i':
        skip(4);
        return NOT_TEXT;
      case 'I':
      case 'g':
        skip(8);
        return NOT_TEXT;
      case 'y':
        skip(16);
        return NOT_TEXT;
      case 'l':
        skip(Math.abs(int()) * 2);
        return NOT_TEXT;
      case 's':
        skip(int());
        return NOT_TEXT;
      case 'u':
      case 't':
      case 'a':
      case 'A':
        return text(int());
      case 'z':
      case 'Z':
        return text(byte());
      case 'r':
        return refs[int()] ?? NOT_TEXT;
      case ')':
        items(byte(), depth);
        return NOT_TEXT;
      case '(':
      case '[':
      case '<':
      case '>':
        items(int(), depth);
        return NOT_TEXT;
      case ':':
        items(3, depth);
        return NOT_TEXT;
      case 'c':
        code(depth);
        return NOT_TEXT;
      default:
        throw new RangeError('no object that code holds');
    }
  }

  /** The instructions are bytes, or stand for bytes that were seen before. */
  function instructions(): Uint8Array {
    const head = byte();
    if ((head & ~REF) !== 's'.charCodeAt(0)) throw new RangeError('code without instructions');
    if (head & REF) refs.push(NOT_TEXT);
    return data(int());
  }

  function names(depth: number): string[] {
    const head = byte();
    const place = head & REF ? refs.push(NOT_TEXT) - 1 : -1;
    const type = String.fromCharCode(head & ~REF);
    if (type === ')') return items(byte(), depth);
    if (type === '(') return items(int(), depth);
    // The names of one code object may be those of another; which these are was not kept.
    content(type, depth);
    if (place >= 0) refs[place] = NOT_TEXT;
    return [];
  }

  function code(depth: number): void {
    const isModule = depth === 0;
    // Counts of arguments (and of locals, before 3.11), stack size, flags.
    skip(minor >= 11 ? 20 : 24);
    if (isModule) {
      const own = instructions();
      object(depth + 1);
      found = { instructions: own, names: names(depth) };
      return;
    }
    // Instructions, constants, names, then what locals there are, and the names of the file and of the code itself;
    for (let i = 0; i < 8; i++) object(depth + 1);
    // then where lines begin, and what handles exceptions.
    skip(4);
    object(depth + 1);
    if (minor >= 11) object(depth + 1);
  }

  try {
    object(0);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return found;
}
