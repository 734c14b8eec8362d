import { tomlStatements } from '../containerd/toml-statements.ts';

/** The lines (from 1) on which the statements stand that set each of `paths` in a valid TOML text; 1 where one is not set. */
export function statementLines(text: string, paths: readonly (readonly string[])[]): number[] {
  const statements = tomlStatements(text);
  return paths.map((path) => {
    const statement = statements.find((one) =>
      // A pair may set a whole table; `a.b = 1` and `[a.b]` set `a`.
      one.kind === 'pair' ? beginsWith(one.path, path) || beginsWith(path, one.path) : beginsWith(one.path, path),
    );
    return text.slice(0, statement?.start ?? 0).split('\n').length;
  });
}

function beginsWith(path: readonly string[], start: readonly string[]): boolean {
  return start.every((key, i) => path[i] === key);
}
