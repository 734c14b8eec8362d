import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { isObject } from '../descriptor.ts';
import { type Candidate, type Credential, fromEntry, hubNames, normaliseKey } from './credential.ts';

const HELPER_TIMEOUT = 30_000;

/**
 * Files that may hold credentials, first match wins: the given one alone; else `$DOCKER_CONFIG/config.json` or
 * `~/.docker/config.json`, then `$REGISTRY_AUTH_FILE`, then containers' `auth.json` (containers-auth.json(5)).
 */
export function credentialFiles(file: string | undefined, env: NodeJS.ProcessEnv = process.env): string[] {
  if (file) return [file];
  const home = env.HOME || homedir();
  const files = [env.DOCKER_CONFIG ? join(env.DOCKER_CONFIG, 'config.json') : join(home, '.docker/config.json')];
  if (env.REGISTRY_AUTH_FILE) return [...files, env.REGISTRY_AUTH_FILE];
  files.push(
    env.XDG_RUNTIME_DIR
      ? join(env.XDG_RUNTIME_DIR, 'containers/auth.json')
      : `/run/containers/${process.getuid?.() ?? 0}/auth.json`,
  );
  files.push(join(env.XDG_CONFIG_HOME || join(home, '.config'), 'containers/auth.json'));
  return files;
}

/**
 * The credentials of a registry in these files. They are read anew each time, and helpers asked: people log in while the
 * daemon runs. A helper runs only when what came before it is not good enough.
 * @param host `registry.example:5000`, as the reference or hosts.toml names it
 * @param repository for entries that hold for a part of a registry only, as containers' tools write them
 * @param problems takes files and helpers that could not be used
 */
export async function* dockerCredentials(
  files: readonly string[],
  host: string,
  repository: string,
  problems: string[],
  env: NodeJS.ProcessEnv = process.env,
): AsyncGenerator<Candidate> {
  const names = hubNames(host);
  for (const file of files) {
    const config = await readConfig(file, problems);
    if (!config) continue;
    for (const [helper, server] of helpersFor(config, names)) {
      const credential = await askHelper(helper, server, env, problems);
      if (credential) yield { credential, from: `docker-credential-${helper}` };
    }
    const credential = fromAuths(config.auths, names, repository, file, problems);
    if (credential) yield { credential, from: file };
  }
}

interface ConfigFile {
  auths?: Record<string, unknown>;
  credHelpers?: Record<string, unknown>;
  credsStore?: unknown;
}

async function readConfig(file: string, problems: string[]): Promise<ConfigFile | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'));
    if (isObject(value)) return value as ConfigFile;
    problems.push(`${file} is not a JSON object`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') problems.push(`${file} cannot be read (${code ?? 'it is not JSON'})`);
  }
  return undefined;
}

/** Helper and the server name to ask it for: one of this host's own, else the store of all. */
function helpersFor(config: ConfigFile, names: string[]): [string, string][] {
  if (isObject(config.credHelpers)) {
    for (const name of names) {
      const helper = config.credHelpers[name];
      if (typeof helper === 'string' && helper !== '') return [[helper, name]];
    }
  }
  if (typeof config.credsStore !== 'string' || config.credsStore === '') return [];
  const server = names.length > 1 ? 'https://index.docker.io/v1/' : names[0];
  return [[config.credsStore, server]];
}

/** Docker's credential helper protocol: the server's name on standard input, a JSON object on standard output. */
async function askHelper(
  helper: string,
  server: string,
  env: NodeJS.ProcessEnv,
  problems: string[],
): Promise<Credential | undefined> {
  const program = `docker-credential-${helper}`;
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) {
    problems.push('a credential helper has a name that is not a program name');
    return undefined;
  }
  const { output, failure } = await run(program, server, env);
  if (failure === undefined) {
    try {
      const { Username, Secret } = JSON.parse(output) as { Username?: unknown; Secret?: unknown };
      if (typeof Username === 'string' && typeof Secret === 'string') {
        if (Username === '' && Secret === '') return undefined;
        if (Username === '<token>') return { kind: 'identity', token: Secret };
        return { kind: 'basic', username: Username, password: Secret };
      }
    } catch {
      // Told below: what it printed may hold a secret, so it is not shown.
    }
    problems.push(`${program} gave no credential that can be read`);
  } else if (!/credentials not found/i.test(output)) problems.push(`${program} failed (${failure})`);
  return undefined;
}

function run(program: string, input: string, env: NodeJS.ProcessEnv): Promise<{ output: string; failure?: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      ['get'],
      { env, timeout: HELPER_TIMEOUT, killSignal: 'SIGKILL', maxBuffer: 1 << 20 },
      (error, output) => {
        const failure = error ? (error.killed ? 'no answer in time' : String(error.code ?? 'killed')) : undefined;
        resolve({ output, ...(failure === undefined ? {} : { failure }) });
      },
    );
    // A helper that ends without reading closes the pipe; its exit says what is wrong.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

function fromAuths(
  auths: unknown,
  names: string[],
  repository: string,
  file: string,
  problems: string[],
): Credential | undefined {
  if (!isObject(auths)) return undefined;
  const byName = new Map(Object.entries(auths).map(([key, entry]) => [normaliseKey(key), entry]));
  for (const name of names) {
    for (
      let scope = `${name}/${repository}`;
      scope !== '';
      scope = scope.slice(0, Math.max(0, scope.lastIndexOf('/')))
    ) {
      const entry = byName.get(scope);
      if (!isObject(entry)) continue;
      const credential = fromEntry(entry);
      if (credential) return credential;
      // Docker leaves an empty entry where a helper holds the secret.
      if (Object.keys(entry).length > 0)
        problems.push(`the entry for ${scope} in ${file} has no credential that can be read`);
    }
  }
  return undefined;
}
