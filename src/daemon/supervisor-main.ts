/** A supervisor that the daemon starts when its own has died: it adopts that daemon. Its one argument is {@link Adoption}. */

import type { LogOptions } from './log.ts';
import type { DaemonMessage } from './supervision.ts';
import { supervise } from './supervisor.ts';

export interface Adoption {
  /** The daemon's process; and its program and arguments. */
  pid: number;
  /** What it told the supervisor before: a message would be lost with a daemon that is killed before it is sent. */
  told: DaemonMessage[];
  command: string[];
  /** Whether /dev/fuse is descriptor 3, and again 5. */
  fuse: boolean;
  trees: boolean;
  log: Pick<LogOptions, 'level' | 'format'>;
}

const { pid, told, log, ...rest } = JSON.parse(process.argv[2]) as Adoption;
const status = await supervise({
  ...rest,
  adopt: { pid, told },
  // It speaks seldom, and carries no logger until it does.
  log: async (message) => (await import('./log.ts')).createLogger(log).warn(message),
});
process.exit(status);
