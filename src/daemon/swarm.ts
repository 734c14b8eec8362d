import { createDragonfly, DEFAULT_ENDPOINT } from '../sources/dragonfly/dragonfly.ts';
import type { Swarm } from '../sources/swarm.ts';
import type { Config } from './config.ts';
import type { Logger } from './log.ts';

/** `[dragonfly]` of the configuration; none if it says so. */
export async function openSwarm({ dragonfly }: Pick<Config, 'dragonfly'>, log: Logger): Promise<Swarm | undefined> {
  const { endpoint, digestIds, tag, application, priority } = dragonfly;
  if (endpoint === 'none') return undefined;
  return createDragonfly({
    endpoint: endpoint ?? DEFAULT_ENDPOINT,
    named: endpoint !== undefined,
    task: { priority, digestIds, tag, application },
    log,
  });
}
