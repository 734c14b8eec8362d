import { access } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { listPlugins } from '../../src/plugins/store.ts';

const componentizer = new URL('../../plugins/componentize.ts', import.meta.url).href;

/** The module that makes components, or `undefined` after the test was skipped: it needs jco, which not every checkout has. */
export async function componentizerOrSkip(
  t: TestContext,
): Promise<typeof import('../../plugins/componentize.ts') | undefined> {
  try {
    return await import(componentizer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    t.skip('componentize-qjs and jco-transpile are not installed: `make build` brings them');
    return undefined;
  }
}

/** Builds the drivers that come with nymph where `make plugins` has not. @returns why they are not there */
export async function withoutDrivers(): Promise<string | undefined> {
  if ((await listPlugins(undefined)).length === 2) return undefined;
  try {
    await access(fileURLToPath(new URL('../../node_modules/componentize-qjs', import.meta.url)));
  } catch {
    return 'the drivers are not built, and componentize-qjs is not installed: `make plugins`';
  }
  await import(new URL('../../plugins/build.ts', import.meta.url).href);
  return undefined;
}
