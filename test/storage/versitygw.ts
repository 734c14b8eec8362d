/** A real S3 server that checks signatures: Versity's gateway over a folder. `make test` builds it where Go is. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../daemon.ts';
import { PROJECT } from '../fixtures.ts';
import { freePort } from '../free-port.ts';
import type { Keys } from './signatures.ts';

const PROGRAM = join(PROJECT, 'node_modules', '.cache', 'go', 'versitygw');

/** Why it cannot be started, for the `skip` of tests. */
export function cannotServeS3(): string | false {
  return existsSync(PROGRAM) ? false : 'needs versitygw: `make system-deps` builds it with Go';
}

/**
 * @param directory its folders are the buckets, their files the objects
 * @returns `host:port`
 */
export async function startVersity(
  t: { after(clean: () => void): void },
  directory: string,
  keys: Keys,
  region: string,
): Promise<string> {
  const host = `127.0.0.1:${await freePort()}`;
  mkdirSync(directory, { recursive: true });
  const options = ['--region', region, '--port', host, '--keep-alive', '--quiet'];
  // Among the arguments everybody could see the secret, and tests look whether somebody can.
  const env = { ...process.env, ROOT_ACCESS_KEY: keys.id, ROOT_SECRET_KEY: keys.secret };
  const server = spawn(PROGRAM, [...options, 'posix', directory], { stdio: 'ignore', env });
  t.after(() => void server.kill('SIGKILL'));
  await until(15_000, 'versitygw does not answer', async () => (await fetch(`http://${host}/`)).status);
  return host;
}
