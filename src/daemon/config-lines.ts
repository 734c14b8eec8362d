import { parse } from 'smol-toml';

/**
 * The lines (from 1) on which the statements stand that set each of `paths` in a valid TOML text; 1 where one is not set.
 *
 * The parser keeps no positions. But a valid document cut after a whole statement is valid, and cut inside one it is
 * not: the first cut that has the key ends its statement, and the last valid cut before that is where it begins. This
 * parses the text once for each line, which only a file with an error pays for.
 */
export function statementLines(text: string, paths: readonly (readonly string[])[]): number[] {
  const lines = text.split('\n');
  const found = new Map<number, number>();
  let begin = 1;
  for (let count = 1; count <= lines.length && found.size < paths.length; count++) {
    const document = parsed(`${lines.slice(0, count).join('\n')}\n`);
    if (document === undefined) continue;
    for (const [i, path] of paths.entries()) if (!found.has(i) && has(document, path)) found.set(i, begin);
    begin = count + 1;
  }
  return paths.map((_, i) => found.get(i) ?? 1);
}

function parsed(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

function has(document: unknown, path: readonly string[]): boolean {
  let value = document;
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return false;
    value = (value as Record<string, unknown>)[key];
  }
  return true;
}
