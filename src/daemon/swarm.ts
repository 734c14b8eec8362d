import { join } from 'node:path';
import { byGrpc } from '../sources/dragonfly/by-grpc.ts';
import { byProxy } from '../sources/dragonfly/by-proxy.ts';
import { createDragonfly } from '../sources/dragonfly/dragonfly.ts';
import { createLinks } from '../sources/dragonfly/links.ts';
import type { Swarm } from '../sources/swarm.ts';
import { VERSION } from '../version.ts';
import type { Config } from './config.ts';
import type { Logger } from './log.ts';

/** Where dfdaemon has its socket, if nobody has told it otherwise. */
const DEFAULT_ENDPOINT = 'unix:///var/run/dragonfly/dfdaemon.sock';

/** `[dragonfly]` of the configuration; none if it says so. */
export async function openSwarm(
  { dragonfly, root }: Pick<Config, 'dragonfly' | 'root'>,
  log: Logger,
): Promise<Swarm | undefined> {
  const { endpoint, proxy, ...task } = dragonfly;
  if (endpoint === 'none') return undefined;
  const way =
    proxy === undefined
      ? byGrpc(endpoint ?? DEFAULT_ENDPOINT, endpoint !== undefined, log, createLinks(join(root, 'dragonfly')))
      : byProxy(new URL(proxy), `nymph/${VERSION}`);
  return createDragonfly(way, task, log);
}
