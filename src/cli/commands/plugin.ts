import { readFile, stat } from 'node:fs/promises';
import { formatSize } from '../../daemon/units.ts';
import { NymphError } from '../../errors.ts';
import { pluginsDirectory } from '../../plugins/directory.ts';
import type { InstalledPlugin } from '../../plugins/plugin.ts';
import { addPlugin, listPlugins, removePlugin } from '../../plugins/store.ts';
import type { Context } from '../context.ts';
import { fields, table } from '../text.ts';

/** Largest component, bytes: one with QuickJS in it has 1.1 MB, one with SpiderMonkey 12. */
const COMPONENT_LIMIT = 32 << 20;

/** `nymph plugin add FILE`. A daemon that runs uses it for the next reference. */
export async function add(context: Context, file: string, options: { replace?: boolean }): Promise<undefined> {
  const component = await readComponent(file);
  const plugin = await addPlugin(component, pluginsDirectory(context.config.root), options.replace ?? false);
  context.print(documentOf(plugin), () => `added ${plugin.description.scheme}://\n${reachText(plugin)}`);
}

/** `nymph plugin ls` */
export async function list(context: Context): Promise<undefined> {
  const plugins = await listPlugins(pluginsDirectory(context.config.root));
  context.print({ plugins: plugins.map(documentOf) }, () =>
    table([
      ['SCHEME', 'HUB', 'REDIRECTS TO', 'FROM', 'SHA256'],
      ...plugins.map(({ description, builtIn, sha256 }) => [
        `${description.scheme}://`,
        description.endpoint,
        description.redirects.join(' ') || '-',
        builtIn ? 'nymph' : 'added',
        sha256.slice(0, 12),
      ]),
    ]),
  );
}

/** `nymph plugin rm SCHEME`. What is mounted by it can be read as far as it is in the cache. */
export async function remove(context: Context, scheme: string): Promise<undefined> {
  const name = scheme.replace(/:\/\/$/, '');
  await removePlugin(name, pluginsDirectory(context.config.root));
  context.print({ removed: name }, () => `removed ${name}://`);
}

async function readComponent(file: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(file);
    if (size > COMPONENT_LIMIT)
      throw new NymphError(
        'unsupported',
        `${file} has ${formatSize(size)}; a plugin has ${formatSize(COMPONENT_LIMIT)} at most`,
      );
    return await readFile(file);
  } catch (error) {
    if (error instanceof NymphError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new NymphError(code === 'ENOENT' ? 'not-found' : 'usage', `cannot read ${file}: ${code}`);
  }
}

/** What a plugin may do: what an administrator should know before anybody uses it. */
function reachText({ description }: InstalledPlugin): string {
  const { endpoint, redirects, tokenHeaders } = description;
  return fields(
    [
      ['asks', endpoint],
      ['redirects to', redirects.join(', ') || 'no other host'],
      ['token', tokenHeaders.length === 0 ? 'none is sent' : `in ${tokenHeaders.map(([name]) => name).join(', ')}`],
    ],
    '  ',
  );
}

function documentOf({ description, builtIn, sha256 }: InstalledPlugin): object {
  return { ...description, builtIn, sha256 };
}
