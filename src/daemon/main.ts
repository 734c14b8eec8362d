/** The daemon's process: started by the supervisor, with the kernel driver's /dev/fuse as descriptors 3 and 5. */
import { readlinkSync } from 'node:fs';
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
import { connectionNames } from './stored-descriptor.ts';
import { FUSE_FD, type Held, INHERITED_ENV, PAUSE_ENV, SUCCESSOR_ENV, TREES_ENV, TREES_FD } from './supervision.ts';
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
const { [INHERITED_ENV]: inheritedFuse, [TREES_ENV]: givenTrees } = process.env;
/** FUSE threads block in the kernel: exit(3) would wait for them for ever. */
const exitNow = koffi.load('libc.so.6').func('void _exit(int status)');

refuseCoreDumps();
let daemon: Daemon | undefined;
let stopping = false;

const config = await loadConfig(values.config, values).catch((error) => {
  process.stderr.write(`nymph: ${(error as Error).message}\n`);
  process.exit(exitStatus(error));
});
const isOurs = config.fuse.driver === 'kernel';
const fuse: Held | undefined = isOurs ? { fd: FUSE_FD, inherited: inheritedFuse === '1' } : undefined;
// A supervisor of an earlier version has none, and may pass on what a later one has said.
const trees: Held | undefined =
  isOurs && givenTrees && isFuse(TREES_FD) ? { fd: TREES_FD, inherited: givenTrees === 'inherited' } : undefined;
for (const held of [fuse, trees]) if (held !== undefined) closeOnExec(held.fd);
const log = { level: config.log.level, format: config.log.format };
const logger = createLogger(log);
const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
const manager = serviceManager(process.env, (message) => logger.warn(message));
const names = connectionNames(config.root, config.fuse.mountpoint);
/** Readers depend on us, not on the supervisor: without it we serve on, and have another one watch us. */
const supervisor = supervisorLink({
  successor: process.env[SUCCESSOR_ENV] === '1',
  trees: trees !== undefined,
  onAbandoned: () => exitNow(1),
  next: (told) => startSupervisor({ fuse: fuse?.fd, trees: trees?.fd }, { told, command, log }),
  onWatching: manager.main,
  onGone: (pause) => logger.warn({ pause }, 'the supervisor is gone; starting another one'),
});

// A service manager may start the next daemon on the connection that it keeps.
process.on('SIGTERM', () => void stop(0, 'asked to stop', !manager.present));
process.on('SIGINT', () => void stop(0, 'asked to stop', !manager.present));
process.on('uncaughtException', (error) => void die('uncaught exception', error));
process.on('unhandledRejection', (error) => void die('unhandled rejection', error));

const limits = { ...nodeLimits(), openFiles: raiseOpenFiles() };
if (fuse?.inherited) supervisor.tell({ type: 'mounted' });
if (trees?.inherited) supervisor.tell({ type: 'trees-mounted' });
await supervisor.takeOver();
await sleep(Number(process.env[PAUSE_ENV] ?? 0));
try {
  daemon = await startDaemon({
    config,
    logger,
    version: VERSION,
    limits,
    fuse,
    trees: trees && {
      ...trees,
      onMount: () => supervisor.tell({ type: 'trees-mounted' }),
      onMounted: () => manager.keep(trees.fd, names.trees),
      onEnd: () => {
        supervisor.tell({ type: 'trees-lost' });
        void stop(1, 'the FUSE mount of trees was taken away');
      },
    },
    supervisor: supervisor.pid,
    standIn: supervisor.standIn,
    lookUp: supervisor.lookUp,
    onMounted: () => {
      supervisor.tell({ type: 'mounted' });
      if (fuse !== undefined) manager.keep(fuse.fd, names.fuse);
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
  const { root, address } = config;
  logger.info({ version: VERSION, pid: process.pid, root, address, inherited: fuse?.inherited === true }, 'serving');
  logger.info(limits, 'what this daemon may use');
  if (limits.openFiles.low !== undefined) logger.warn({ limit: limits.openFiles.limit }, limits.openFiles.low);
} catch (error) {
  logger.fatal({ error }, 'cannot start');
  leave(exitStatus(error));
}

function isFuse(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/fuse';
  } catch {
    return false; // It is not open.
  }
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
