import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NymphError } from '../errors.ts';
import { checkPlugin } from './installed.ts';
import type { InstalledPlugin, Plugin } from './plugin.ts';
import { describePlugin } from './run.ts';
import { isScheme } from './scheme.ts';

/**
 * Drivers that are installed: those that `make plugins` built, and those that `nymph plugin add` has put below the root. A
 * folder each, named after its scheme. Nothing is kept in memory: a driver that is added serves the next reference.
 */

/** Beside `src/` and `dist/`. */
const BUILT_IN = fileURLToPath(new URL('../../plugins/built', import.meta.url));
const DESCRIPTION_FILE = 'plugin.json';

/** @throws NymphError `not-found` */
export async function findPlugin(scheme: string, directory: string | undefined): Promise<InstalledPlugin> {
  for (const place of places(directory)) {
    const plugin = isScheme(scheme) ? await readPlugin(place.directory, scheme, place.builtIn) : undefined;
    if (plugin !== undefined) return plugin;
  }
  throw new NymphError('not-found', `there is no plugin for ${scheme}://`, {
    hint: 'See `nymph plugin ls`, and docs/plugins.md for how to write one. For an image leave out the scheme.',
  });
}

/** All that there are, built-in ones first. */
export async function listPlugins(directory: string | undefined): Promise<InstalledPlugin[]> {
  const found: InstalledPlugin[] = [];
  for (const place of places(directory)) {
    for (const scheme of (await namesIn(place.directory)).filter(isScheme).sort()) {
      const plugin = await readPlugin(place.directory, scheme, place.builtIn);
      if (plugin !== undefined) found.push(plugin);
    }
  }
  return found;
}

/**
 * Installs a component.
 * @param directory holds the drivers; made if it is not there
 * @param replace whether one of the same scheme may be there
 * @throws NymphError `exists`; what `transpile` and the driver itself throw
 */
export async function addPlugin(component: Uint8Array, directory: string, replace: boolean): Promise<InstalledPlugin> {
  const plugin = await installInto(component, directory, replace, async (scheme) => {
    if (await readPlugin(BUILT_IN, scheme, true))
      throw new NymphError('exists', `${scheme}:// is built in: its token would go to another hub's driver`);
  });
  return { ...plugin, builtIn: false };
}

/** Installs a component beside nymph itself. */
export async function addBuiltIn(component: Uint8Array): Promise<InstalledPlugin> {
  return { ...(await installInto(component, BUILT_IN, true, async () => {})), builtIn: true };
}

/** @throws NymphError `not-found`; `precondition` for those that came with nymph */
export async function removePlugin(scheme: string, directory: string): Promise<void> {
  const { builtIn, directory: folder } = await findPlugin(scheme, directory);
  if (builtIn) throw new NymphError('precondition', `${scheme}:// is built in: it cannot be removed`);
  await rm(folder, { recursive: true });
}

async function installInto(
  component: Uint8Array,
  directory: string,
  replace: boolean,
  admit: (scheme: string) => Promise<void>,
): Promise<Omit<InstalledPlugin, 'builtIn'>> {
  const { transpile } = await import('./transpile.ts');
  const { plugin, files } = await transpile(component);
  const draft = await makeDraft(directory);
  try {
    for (const { name, bytes } of files) await writeFile(join(draft, name), bytes);
    const description = await describePlugin(plugin, draft);
    await admit(description.scheme);
    const target = join(directory, description.scheme);
    const isThere = await stat(target).then(
      () => true,
      () => false,
    );
    if (isThere && !replace)
      throw new NymphError('exists', `there is a plugin for ${description.scheme}:// already`, {
        hint: 'Say `--replace` to put this one in its place.',
      });
    const complete: Plugin = { description, ...plugin };
    await writeFile(join(draft, DESCRIPTION_FILE), `${JSON.stringify(complete, null, 2)}\n`);
    if (isThere) await rename(target, join(draft, 'before'));
    await rename(draft, target);
    await rm(join(target, 'before'), { recursive: true, force: true });
    return { ...complete, directory: target };
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

async function makeDraft(directory: string): Promise<string> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o755 });
    const draft = await mkdtemp(join(directory, '.new-'));
    // Whoever runs the daemon need not be who has added it.
    await chmod(draft, 0o755);
    return draft;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new NymphError('cache', `${directory} cannot be written: ${code}`, {
      hint: 'Run it as the user of the daemon, or name its --root.',
      cause,
    });
  }
}

function places(directory: string | undefined): { directory: string; builtIn: boolean }[] {
  return [{ directory: BUILT_IN, builtIn: true }, ...(directory === undefined ? [] : [{ directory, builtIn: false }])];
}

async function readPlugin(place: string, scheme: string, builtIn: boolean): Promise<InstalledPlugin | undefined> {
  const directory = join(place, scheme);
  try {
    const plugin = JSON.parse(await readFile(join(directory, DESCRIPTION_FILE), 'utf8'));
    return { ...checkPlugin(scheme, plugin), directory, builtIn };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ENOTDIR')
      return undefined;
    throw new NymphError('config', `the plugin in ${directory} cannot be read: ${(error as Error).message}`, {
      hint: 'Add it again with `nymph plugin add --replace`.',
      cause: error,
    });
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
