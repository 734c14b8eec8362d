/** Debian's docker-registry as a process of its own, filled by skopeo. */
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, until } from './daemon.ts';
import { freePort } from './free-port.ts';

export interface DockerRegistry {
  /** The first part of references; it speaks plain HTTP. */
  readonly host: string;
  /** Copies a tag of an OCI layout there. @returns the reference */
  push(layout: string, tag: string, repository: string): Promise<string>;
}

/** Who may use a registry that asks for a login. */
export const USER = 'me:hunter2';

/** Why it cannot be used here, or `false`. */
export function noDockerRegistry(): string | false {
  const missing = ['docker-registry', 'skopeo'].filter((program) => spawnSync(program, ['--version']).error);
  return missing.length > 0 && `not installed: ${missing.join(', ')}`;
}

/**
 * @param directory for its files, which exists and outlives it
 * @param login where the login is written that it asks for, as `docker login` does; without it, it asks for none
 */
export async function startDockerRegistry(
  t: { after(clean: () => void): void },
  directory: string,
  login?: string,
): Promise<DockerRegistry> {
  const host = `127.0.0.1:${await freePort()}`;
  const config = join(directory, 'registry.yml');
  const htpasswd = join(directory, 'htpasswd');
  if (login !== undefined) {
    // bcrypt of "hunter2", as `htpasswd -B` writes it: the only kind that this registry takes.
    writeFileSync(htpasswd, 'me:$2y$05$4clQAByh1QU52o1dOqGKlOgxYYxOes4A6OMCzvQyeejpSb0/6pPJa\n');
    writeFileSync(login, JSON.stringify({ auths: { [host]: { auth: Buffer.from(USER).toString('base64') } } }));
  }
  writeFileSync(
    config,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ${join(directory, 'registry')}}}
${login === undefined ? '' : `auth: {htpasswd: {realm: test, path: ${htpasswd}}}`}
http: {addr: '${host}'}
`,
  );
  const registry = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  t.after(() => void registry.kill());
  await until(10_000, 'docker-registry does not answer', async () => (await fetch(`http://${host}/v2/`)).status);
  return {
    host,
    async push(layout, tag, repository) {
      const reference = `${host}/${repository}:${tag}`;
      const options = ['copy', '-q', '--preserve-digests', '--dest-tls-verify=false'];
      if (login !== undefined) options.push(`--dest-creds=${USER}`);
      const { status, err } = await run('skopeo', [...options, `oci:${layout}:${tag}`, `docker://${reference}`]);
      if (status !== 0) throw new Error(`skopeo: ${err}`);
      return reference;
    },
  };
}
