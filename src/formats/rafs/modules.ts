import type { Visit } from '../../erofs/walk.ts';
import { byPlace, fileTable } from '../../image/file-table.ts';
import type { BlobRange } from '../../image/image.ts';
import { hashName, type Interpreter, type ModuleIndex } from '../python/modules.ts';

/** Compiled modules carry the interpreter's tag: `re.cpython-311.pyc`. Optimised ones, with a second tag, are for who asks for them. */
const COMPILED = /^([^.]+)\.[^.]+\.pyc$/;
const SOURCE = /^([^.]+)\.py$/;
const CACHE_DIRECTORY = /\/__pycache__$/;
const INTERPRETER = /^python3\.\d+$/;
const LOCALE = /\/C\.utf-?8\/LC_CTYPE$/i;
/** Larger ones are data, not imports. */
const MOST_SIZE = 1 << 20;

interface Found extends BlobRange {
  directory: number;
  name: number;
}

/** Collects the Python modules among the files of an image. Of a module that is there compiled and as source the first is read. */
export function collectModules() {
  const directories = new Map<string, number>();
  /** Paths by the number of the visited directory. */
  const paths = new Map<number, string>();
  const found = new Map<string, Found>();
  const compiled = new Set<string>();
  const interpreters: Interpreter[] = [];
  let locale: BlobRange | undefined;

  function file(name: string, range: BlobRange, visit: Visit): void {
    if (INTERPRETER.test(name)) interpreters.push({ name, blob: range.blob, offset: range.offset });
    if (name === 'LC_CTYPE' && LOCALE.test(visit.path().toString('latin1'))) locale = range;
    if (!name.endsWith('.py') && !name.endsWith('.pyc')) return;
    const isCompiled = COMPILED.test(name);
    const module = (isCompiled ? COMPILED : SOURCE).exec(name)?.[1];
    if (module === undefined || range.length > MOST_SIZE) return;
    let path = paths.get(visit.parent);
    if (path === undefined) {
      const whole = visit.path().toString('latin1');
      path = whole.slice(0, whole.length - name.length - 1);
      paths.set(visit.parent, path);
    }
    if (isCompiled !== CACHE_DIRECTORY.test(path)) return;
    if (isCompiled) path = path.replace(CACHE_DIRECTORY, '');
    const key = `${path}/${module}`;
    if (compiled.has(key)) return;
    if (isCompiled) compiled.add(key);
    const directory = directories.get(path) ?? directories.size;
    directories.set(path, directory);
    found.set(key, { ...range, directory, name: hashName(module) });
  }

  function index(): ModuleIndex | undefined {
    if (found.size === 0) return undefined;
    const rows = [...found.values()].sort(byPlace);
    const byName = Uint32Array.from(rows.keys());
    byName.sort((a, b) => rows[a].directory - rows[b].directory || rows[a].name - rows[b].name);
    return {
      paths: [...directories.keys()],
      directories,
      ...fileTable(rows),
      directory: Uint32Array.from(rows, (row) => row.directory),
      name: Uint32Array.from(rows, (row) => row.name),
      byName,
      interpreters,
      locale,
    };
  }

  return { file, index };
}
