/**
 * Makes components of drivers: `node plugins/componentize.ts shelf.ts shelf.wasm`.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';
import { componentize as componentizeJs } from 'componentize-qjs';

const WIT = fileURLToPath(new URL('hub.wit', import.meta.url));

/**
 * Makes a component of a driver in TypeScript or JavaScript, as `jco componentize --backend qjs` does: QuickJS and the
 * driver, without anything of WASI.
 * @param file one module, which imports types only
 */
export async function componentize(file: string): Promise<Uint8Array> {
  const source = stripTypeScriptTypes(await readFile(file, 'utf8'));
  const { component } = await componentizeJs({
    witPath: WIT,
    jsSource: source,
    sync: true,
    stubWasi: true,
    optSize: true,
  });
  return component;
}

if (import.meta.main) {
  const [from, to] = process.argv.slice(2);
  if (to === undefined) throw new Error('name a driver and the component to write: shelf.ts shelf.wasm');
  await writeFile(to, await componentize(from));
}
