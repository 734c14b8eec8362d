/** The daemon's process: started by the supervisor, with the kernel driver's /dev/fuse as descriptor 3. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import koffi from 'koffi';
import { exitStatus } from '../exit-status.ts';
import { closeOnExec } from '../mount/kernel.ts';
import { VERSION } from '../version.ts';
import { loadConfig } from './config.ts';
import { refuseCoreDumps } from './core-dumps.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { createLogger } from './log.ts';
import { nodeLimits } from './node-limits.ts';
import { raiseOpenFiles } from './open-files.ts';
import { serviceManager } from './service-manager.ts';
import { connectionName } from './stored-descriptor.ts';
import { FUSE_FD, INHERITED_ENV, PAUSE_ENV, SUCCESSOR_ENV } from './supervision.ts';
import { startSupervisor, supervisorLink } from './supervisor-link.ts';

const STOP_MS = 10_000;

const { values } = parseArgs({
  options: {
    config: { type: 'string' },
    root: { type: 'string' },
    address: { type: 'string' },
    driver: { type: 'string' },
  },
});
const inherited = process.env[INHERITED_ENV] === '1';
/** FUSE threads block in the kernel: exit(3) would wait for them for ever. */
const exitNow = koffi.load('libc.so.6').func('void _exit(int status)');

refuseCoreDumps();
let daemon: Daemon | undefined;
let stopping = false;

const config = await loadConfig(values.config, values).catch((error) => {
  process.stderr.write(`nymph: ${(error as Error).message}\n`);
  process.exit(exitStatus(error));
});
const fuseFd = config.fuse.driver === 'kernel' ? FUSE_FD : undefined;
if (fuseFd !== undefined) closeOnExec(fuseFd);
const log = { level: config.log.level, format: config.log.format };
const logger = createLogger(log);
const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
const manager = serviceManager(process.env, (message) => logger.warn(message));
const keep = () => {
  if (fuseFd !== undefined) manager.keep(fuseFd, connectionName(config.root, config.fuse.mountpoint));
};
/** Readers depend on us, not on the supervisor: without it we serve on, and have another one watch us. */
const supervisor = supervisorLink({
  successor: process.env[SUCCESSOR_ENV] === '1',
  onAbandoned: () => exitNow(1),
  next: (told) => startSupervisor(fuseFd, { told, command, log }),
  onWatching: manager.main,
  onGone: (pause) => logger.warn({ pause }, 'the supervisor is gone; starting another one'),
});

// A service manager may start the next daemon on the connection that it keeps.
process.on('SIGTERM', () => void stop(0, 'asked to stop', !manager.present));
process.on('SIGINT', () => void stop(0, 'asked to stop', !manager.present));
process.on('uncaughtException', (error) => void die('uncaught exception', error));
process.on('unhandledRejection', (error) => void die('unhandled rejection', error));

const limits = { ...nodeLimits(), openFiles: raiseOpenFiles() };
if (inherited) supervisor.tell({ type: 'mounted' });
await supervisor.takeOver();
await sleep(Number(process.env[PAUSE_ENV] ?? 0));
try {
  daemon = await startDaemon({
    config,
    logger,
    version: VERSION,
    limits,
    fuseFd,
    inherited,
    supervisor: supervisor.pid,
    standIn: supervisor.standIn,
    lookUp: supervisor.lookUp,
    onMounted: () => {
      supervisor.tell({ type: 'mounted' });
      keep();
    },
    onServing: () => {
      supervisor.tell({ type: 'ready' });
      supervisor.tell({ type: 'listening', path: config.snapshotter.address });
    },
    onEnd: (reason) => {
      supervisor.tell({ type: 'lost' });
      void stop(1, reason);
    },
    onUpgrade: async (body) => {
      const { handOver } = await import('./upgrade.ts');
      await handOver(body, supervisor);
      // Who has asked is answered first. With this status a supervisor that knows of no other version, because the one that
      // did is gone, starts this one again.
      setImmediate(() => void stop(1, 'another version takes over'));
    },
    onStop: () => void setImmediate(() => void stop(0, 'asked to stop')),
  });
  manager.serving();
  supervisor.up();
  logger.info({ version: VERSION, pid: process.pid, root: config.root, address: config.address, inherited }, 'serving');
  logger.info(limits, 'what this daemon may use');
  if (limits.openFiles.low !== undefined) logger.warn({ limit: limits.openFiles.limit }, limits.openFiles.low);
} catch (error) {
  logger.fatal({ error }, 'cannot start');
  leave(exitStatus(error));
}

/** @param final the FUSE mount goes, too */
async function stop(status: number, reason: string, final = status === 0): Promise<void> {
  if (stopping) return;
  stopping = true;
  if (status === 0) manager.stopping();
  logger.info({ reason }, 'stopping');
  setTimeout(() => {
    logger.error('stopping took too long');
    // Who was asked to stop must not be started again.
    leave(status);
  }, STOP_MS).unref();
  try {
    await daemon?.stop(final);
  } catch (error) {
    logger.error({ error }, 'stopping failed');
  }
  leave(status);
}

/** A fault of ours: the next daemon takes over with a clean mind. */
function die(what: string, error: unknown): void {
  logger.fatal({ error }, what);
  leave(1);
}

function leave(status: number): void {
  supervisor.leave(status);
  logger.flush(() => exitNow(status));
  setTimeout(() => exitNow(status), 500);
}
