import type { Status } from '../daemon/api.ts';
import type { Config } from '../daemon/config.ts';
import { controlClient } from '../daemon/control-client.ts';
import { answers } from '../daemon/socket.ts';
import { NymphError } from '../errors.ts';
import { VERSION } from '../version.ts';
import { type Finding, findings } from './finding.ts';

const { ok, warning, problem } = findings('daemon');

/** @returns also the daemon's state, if one runs */
export async function checkDaemon(
  config: Config,
  signal: AbortSignal,
): Promise<{ found: Finding[]; status: Status | undefined }> {
  let status: Status;
  try {
    status = await controlClient(config.address, signal).status();
  } catch (error) {
    if (!(error instanceof NymphError) || error.code === 'cancelled') throw error;
    return { found: [warning(error.message, error.hint)], status: undefined };
  }
  const { health, cache, mounts } = status;
  const found: Finding[] = [];
  if (health.version !== VERSION)
    found.push(
      warning(`version ${health.version} runs, this is ${VERSION}`, 'Restart the daemon: images stay mounted.'),
    );
  else found.push(ok(`version ${health.version} runs, process ${health.pid}`));
  if (health.supervisor === undefined)
    found.push(warning('it has no supervisor: a crash would not be caught', 'Restart it with `nymph daemon`.'));
  if (health.root !== config.root)
    found.push(warning(`its root is ${health.root}, not ${config.root}`, 'Name the same configuration for both.'));
  if (!cache.writable)
    found.push(problem('the cache cannot be written: all is fetched anew', 'Look at the disk and at the log.'));
  // What is not served on its sockets is told of below, by asking there.
  for (const message of status.ready.problems)
    if (!/^(?:snapshots are|the CRI socket is) not served/.test(message))
      found.push(problem(message, 'The log says more.'));
  for (const mount of mounts.filter(({ state }) => state !== 'ok'))
    found.push(problem(`${mount.directory}: ${mount.state}`, 'See docs/troubleshooting.md.'));
  const sockets = [
    ['snapshotter.address', config.snapshotter.address],
    ['cri.address', config.cri.address],
  ] as const;
  for (const [name, address] of sockets) {
    if (address === undefined) continue;
    if (await answers(address)) found.push(ok(`it answers on ${address} (${name})`));
    else found.push(problem(`it does not answer on ${address} (${name})`, 'The log says why.'));
  }
  return { found, status };
}
