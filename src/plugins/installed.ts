import { checkDescription, lied } from './check.ts';
import { MAX_PAGES } from './limits.ts';
import type { Plugin } from './plugin.ts';

const FILE = /^[a-z0-9][a-z0-9.-]*$/;

/**
 * Checks a `plugin.json`: folders are copied from one machine to another.
 * @param scheme the folder's name, which is what its driver is asked for
 * @throws NymphError `corrupt`
 */
export function checkPlugin(scheme: string, value: unknown): Plugin {
  const folder = `the plugin in the folder ${scheme}`;
  const { description, glue, modules, sha256 } = (value ?? {}) as Record<string, unknown>;
  const checked = checkDescription(description);
  if (checked.scheme !== scheme) throw lied(folder, 'its scheme', checked.scheme, 'is another one');
  if (typeof glue !== 'string' || !FILE.test(glue)) throw lied(folder, 'its file', glue, 'is none');
  if (!Array.isArray(modules) || !modules.every(isModule)) throw lied(folder, 'its modules', undefined, 'are none');
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) throw lied(folder, 'its digest', sha256, 'is none');
  return { description: checked, glue, modules: modules.map(({ file, pages }) => ({ file, pages })), sha256 };
}

function isModule(value: unknown): value is Plugin['modules'][number] {
  const { file, pages } = (value ?? {}) as Record<string, unknown>;
  return typeof file === 'string' && FILE.test(file) && Number.isInteger(pages) && (pages as number) <= MAX_PAGES;
}
