import { chmod, chown, copyFile, mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { NymphError } from '../errors.ts';
import { criSettings, pluginsAt, type Table } from './config.ts';
import { PLUGIN, planChanges, type Wanted } from './plan.ts';
import { changeToml, restoreToml } from './toml-edit.ts';
import { dumpConfig, installedVersion } from './version.ts';

/** A change of containerd's configuration that was not made yet. */
export interface Setup {
  /** The file itself, behind links. */
  readonly file: string;
  /** Its text; `undefined` if there is no file. */
  readonly before: string | undefined;
  /** `''`: nothing is left. */
  readonly after: string;
}

/**
 * @param wanted `undefined` takes out what nymph has put in
 * @throws NymphError `config`, `unsupported`
 */
export async function prepareSetup(path: string, wanted: Wanted | undefined): Promise<Setup> {
  const file = await realpath(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return path;
    throw cannot('read', path, error);
  });
  const before = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw cannot('read', file, error);
  });
  // From what was there without nymph: so a second run gives the same, and a changed socket is followed.
  const clean = restoreToml(before ?? '');
  const document = parseToml(clean, file);
  const after = wanted ? changeToml(clean, planChanges(document, wanted)) : clean;
  return { file, before, after };
}

/**
 * Writes the file, and the former one beside it. containerd, if it is installed, must accept the new one first.
 * @returns the name of the copy, and what of nymph's lines has no effect because of other files
 * @throws NymphError `config` with containerd's words; then nothing was changed
 */
export async function writeSetup(
  setup: Setup,
  wanted: Wanted | undefined,
): Promise<{ backup?: string; notes: string[] }> {
  const { file, before, after } = setup;
  const directory = dirname(file);
  await mkdir(directory, { recursive: true }).catch((error) => {
    throw cannot('write', directory, error);
  });
  const fresh = `${file}.nymph-new`;
  const backup = before === undefined ? undefined : `${file}.before-nymph`;
  try {
    await writeWhole(fresh, after, file);
    const notes = wanted ? await check(fresh, wanted) : [];
    if (backup) await copyFile(file, backup);
    if (after === '') await Promise.all([rm(file, { force: true }), rm(fresh)]);
    else await rename(fresh, file);
    return { ...(backup ? { backup } : {}), notes };
  } catch (error) {
    await rm(fresh, { force: true });
    throw error instanceof NymphError ? error : cannot('write', file, error as NodeJS.ErrnoException);
  }
}

/** With mode and owner of the file that it will replace. */
async function writeWhole(path: string, text: string, like: string): Promise<void> {
  const old = await stat(like).catch(() => undefined);
  const handle = await open(path, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await chmod(path, old ? old.mode & 0o7777 : 0o644);
  if (old) await chown(path, old.uid, old.gid);
}

/** Imported files are merged over this one, in ways that differ by version: containerd itself says what comes out. */
async function check(file: string, wanted: Wanted): Promise<string[]> {
  const installed = await installedVersion('containerd');
  const { major, minor } = wanted.containerd;
  if (installed?.major !== major || installed.minor !== minor) return [];
  const dump = await dumpConfig(file);
  const document = parseToml(dump, 'the output of `containerd config dump`');
  const notes: string[] = [];
  if (!pluginsAt(document, wanted.address).includes(PLUGIN))
    notes.push(`an imported file has another [proxy_plugins.${PLUGIN}]`);
  if (wanted.cri && criSettings(document, wanted.containerd.major).snapshotter !== PLUGIN)
    notes.push('an imported file has another snapshotter for CRI');
  return notes;
}

function parseToml(text: string, name: string): Table {
  try {
    return parse(text) as Table;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const why = error.message.split('\n', 1)[0].replace(/^Invalid TOML document: /, '');
    throw new NymphError('config', `${name}:${error.line}:${error.column}: no valid TOML: ${why}`, { cause: error });
  }
}

function cannot(what: string, path: string, error: NodeJS.ErrnoException): NymphError {
  return new NymphError('config', `cannot ${what} ${path}: ${error.code ?? error.message}`, {
    hint: error.code === 'EACCES' || error.code === 'EPERM' ? 'Run it as root.' : undefined,
    cause: error,
  });
}
