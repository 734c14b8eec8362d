import { NymphError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { type RunningPlugin, SNAPSHOTTER_PLUGIN } from './running.ts';
import { isStatus } from './status.ts';

/** containerd answers this from memory, ms. */
const ANSWER_TIMEOUT = 10_000;

/**
 * Asks containerd whether it knows a snapshotter.
 * @returns the socket of one that is a proxy plugin
 * @throws NymphError `daemon` if containerd does not run, `config` if it does not know the snapshotter or cannot use it
 */
export async function findSnapshotter(
  connection: Connection,
  name: string,
  namespace: string,
  signal: AbortSignal,
): Promise<{ address?: string }> {
  const { plugins } = await connection
    .call<{ plugins: RunningPlugin[] }>(
      'introspection',
      'Plugins',
      { filters: [`type==${SNAPSHOTTER_PLUGIN}`] },
      { namespace, signal, timeout: ANSWER_TIMEOUT },
    )
    .catch((error) => {
      throw isStatus(error, 'unavailable') ? unreachable(connection.address, error) : error;
    });
  const usable = plugins.filter(({ initErr }) => initErr === null).map(({ id }) => id);
  const plugin = plugins.find(({ id }) => id === name);
  if (plugin === undefined)
    throw new NymphError('config', `containerd at ${connection.address} has no snapshotter "${name}"`, {
      hint: `Tell it of nymph with \`nymph setup containerd\`, or name one that it has with --snapshotter: ${usable.join(', ')}.`,
    });
  if (plugin.initErr !== null)
    throw new NymphError('config', `containerd cannot use the snapshotter "${name}": ${plugin.initErr.message}`, {
      hint: `It can use ${usable.join(', ')}.`,
    });
  const { address } = plugin.exports;
  return address === undefined ? {} : { address };
}

function unreachable(address: string, cause: NymphError): NymphError {
  const { details } = cause.cause as { details: string };
  // grpc-js wraps what the system said.
  const said = /Last error: (?:Error: )?(.*?)\. Resolution note/.exec(details)?.[1] ?? details;
  const denied = /\b(EACCES|EPERM)\b/.test(details);
  const hint = denied ? 'Run as root.' : 'Start containerd, or name its socket with --containerd.';
  return new NymphError('daemon', `cannot talk to containerd at ${address}: ${said}`, { hint, cause });
}
