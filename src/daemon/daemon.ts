import { setTimeout as sleep } from 'node:timers/promises';
import type { Cache } from '../cache/cache.ts';
import { openCache } from '../cache/open.ts';
import type { ImageServiceProxy } from '../cri/proxy.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { createGate } from '../fetch/gate.ts';
import { boundsFor, DEFAULT_POLICY, prefetchRequestFor } from '../fetch/policy.ts';
import { createRace } from '../fetch/race.ts';
import { createFetchStatistics } from '../fetch/statistics.ts';
import { STORE } from '../fetch/store-flights.ts';
import type { OciDigest } from '../image/image.ts';
import { type Connection, type FuseDescriptor, kernelConnection, nativeConnection } from '../mount/connection.ts';
import { createFlatFileSystem } from '../mount/flat.ts';
import { refuseServed } from '../mount/fuse.ts';
import { LOAD } from '../mount/load.ts';
import { createMounts } from '../mount/mounts.ts';
import { createImageOpener } from '../mount/open.ts';
import { createServedBlobs } from '../mount/served.ts';
import { createStartup, STARTUP_FILES } from '../mount/startup.ts';
import { IMPORTS } from '../mount/startup-modules.ts';
import { createTracing } from '../mount/tracing.ts';
import type { TreeDescriptor } from '../mount/tree-connection.ts';
import { warmHttp } from '../sources/http/warm-up.ts';
import type { CapturedCredentials } from '../sources/registry/captured.ts';
import { createThreadPool, MOST_THREADS, type ThreadPool } from '../threads/pool.ts';
import { INSTALLED } from '../version.ts';
import type { DaemonLimits, Health, Ready } from './api.ts';
import type { Config } from './config.ts';
import { closeServer, type Routes, serveControl } from './control-server.ts';
import { releaseMemoryWhenIdle } from './idle-memory.ts';
import { imagesForContainers } from './images.ts';
import type { Logger } from './log.ts';
import { createPolicy } from './policy.ts';
import { createReading } from './reading.ts';
import { capturedCredentials, registryOptions } from './registry-options.ts';
import { createRoutes } from './routes.ts';
import { createService } from './service.ts';
import { type Snapshots, serveSnapshots } from './snapshots.ts';
import { claimSocket } from './socket.ts';
import { openSwarm } from './swarm.ts';
import { openTraces } from './traces.ts';
import type { WebServer } from './web-server.ts';

/** How long an heir waits for the root, ms: more than another daemon takes to see that it has no business there. */
const HEIR_MS = 15_000;

export interface DaemonOptions {
  config: Config;
  logger: Logger;
  version: string;
  limits: DaemonLimits;
  /** /dev/fuse; undefined with the driver `fuse-native`. */
  fuse: FuseDescriptor | undefined;
  /** The same again, for trees of images; undefined where the supervisor has none. */
  trees: TreeDescriptor | undefined;
  /** Process id of the supervisor, while there is one. */
  supervisor: () => number | undefined;
  /** True if that one was started by a daemon. */
  standIn: () => boolean;
  /** Makes the kernel know names below our FUSE mount, from another process. */
  lookUp: (paths: string[]) => Promise<void>;
  /** FUSE is mounted: a daemon that starts after us inherits the connection. */
  onMounted: () => void;
  /** It serves, and has answered nobody yet: from now on somebody waits for the next daemon if it dies. */
  onServing: () => void;
  /** The daemon cannot serve any longer. */
  onEnd: (reason: string) => void;
  /** A client wants another program in our place; `body` is not checked yet. Resolves when we end for it. */
  onUpgrade: (body: unknown) => Promise<void>;
  /** A client asks the daemon to stop. */
  onStop: () => void;
}

export interface Daemon {
  /** Syncs the cache and closes what is open. Image mounts stay; with `final` the FUSE mount goes. */
  stop(final: boolean): Promise<void>;
}

/** Puts the parts together and starts to serve: cache, FUSE, mounts of an earlier daemon, control API. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { config, logger, limits, fuse } = options;
  const inherited = fuse?.inherited === true;
  const log: FetchContext['log'] = (level, message, fields) => logger[level](fields ?? {}, message);
  if (fuse !== undefined && !inherited) await refuseServed(config.fuse.mountpoint);
  let snapshots: Snapshots | undefined;
  const needed = () => snapshots?.needed() ?? new Set<OciDigest>();
  const [cache, swarm] = await Promise.all([openRoot(options, needed, log), openSwarm(config, logger)]);
  const pool = createThreadPool(Math.min(limits.cpus, MOST_THREADS));
  const { backlog, concurrency } = boundsFor(limits.memory, config.fetch.concurrency);
  const context: FetchContext = {
    policy: {
      ...DEFAULT_POLICY,
      deadline: config.fetch.deadline,
      attempts: config.fetch.attempts,
      amplify: config.fetch.amplify,
      windowMax: config.fetch.windowMax,
      backlog,
      prefetchRequest: prefetchRequestFor(config.fetch.prefetchBandwidth),
    },
    pool,
    gates: {
      demand: createGate(concurrency),
      prefetch: createGate(DEFAULT_POLICY.prefetchRequests),
    },
    statistics: createFetchStatistics(),
    race: createRace(swarm, { budget: config.fetch.budget, background: config.fetch.prefetchBandwidth }),
    log,
    changed: (blob) => cache.changed(blob),
    refused: (blob, reason) => cache.refused(blob, reason),
    awaited: (blob, offset) => startup.awaited(blob, offset),
    arrived: (blob, offset, isProgram) => {
      tracing.arrived(blob, offset);
      startup.arrived(blob, offset, isProgram);
    },
  };
  const connection = await connect(options, cache, pool, log).catch(async (error) => {
    await cache.close();
    throw error;
  });
  const { driver } = connection;
  const blobs = createServedBlobs(cache, driver, context, connection.dropPages);
  const tracing = createTracing(cache, log);
  const startup = createStartup(blobs, pool, tracing, log);
  const captured = capturedCredentials(config, (error) => log('warn', 'the logins of pulls cannot be kept', { error }));
  const opener = createImageOpener(
    { ...registryOptions(config), ...(captured ? { captured } : {}), log: logger },
    pool,
    config.fetch.traces,
  );
  const mounts = createMounts(cache, connection.ways, log);
  const begun = performance.now();
  /** Why it is not ready, once it serves. */
  const problems: string[] = [];
  let web: WebServer | undefined;
  const ready = (): Ready => {
    const all = [...problems, ...(web?.problem === undefined ? [] : [web.problem])];
    return { ready: all.length === 0, problems: all };
  };
  const health = (): Health => ({
    version: options.version,
    pid: process.pid,
    supervisor: options.supervisor(),
    ...(options.standIn() ? { standIn: true } : {}),
    uptime: (performance.now() - begun) / 1000,
    installed: INSTALLED,
    root: config.root,
  });
  const traces = await openTraces(config.telemetry, options.version, log);
  const service = createService({
    cache,
    driver,
    blobs,
    mounts,
    opener,
    startup,
    policy: createPolicy(config.policy),
    tracing,
    context,
    prefetch: config.fetch.prefetch,
    health,
    ready,
    traces,
    limits,
    snapshots: async () => snapshots?.status(),
  });

  let mounted = false;
  try {
    await connection.open();
    mounted = true;
    options.onMounted();
    // What the kernel remembers must be known before the first request is answered, and mounting needs answers.
    const remount = await service.restore();
    await driver.start(traces.watch(createFlatFileSystem(blobs, connection.trees, log)));
    await remount();
    // Running containers read through us: what keeps new ones from starting must not end the daemon.
    const imageService = await serveCri(config, captured, logger).catch((error) => {
      log('error', 'the CRI socket is not served', { error });
      problems.push(`the CRI socket is not served: ${(error as Error).message}`);
      return undefined;
    });
    snapshots = await serveSnapshots(config, imagesForContainers(service, mounts, opener), pool, log).catch((error) => {
      log('error', 'snapshots are not served', { error });
      problems.push(`snapshots are not served: ${(error as Error).message}`);
      return undefined;
    });
    const parts = { version: options.version, limits, driver, cache, mounts, pool, context, snapshots, service };
    const routes = createRoutes({
      service,
      preheat: { config: config.dragonfly, swarm, opener },
      health,
      ready,
      reading: createReading(parts),
      onUpgrade: options.onUpgrade,
      onStop: options.onStop,
    });
    const failed = (message: string, fields: object) => log('error', message, fields);
    web = await serveListen(config.control, routes, failed).catch((error) => {
      problems.push((error as Error).message);
      failed('metrics and the page are not served over TCP', { error });
      return undefined;
    });
    const server = await serveControl(config.address, routes, failed, options.onServing);
    pool.warm(STORE, LOAD, STARTUP_FILES, IMPORTS);
    if (!(await warmHttp(config.address, '/v1/health')))
      throw new NymphError('internal', `the control API on ${config.address} does not answer`);
    const { statistics } = context;
    const stopReleasing = releaseMemoryWhenIdle(
      () =>
        driver.statistics().hits +
        statistics.faults +
        statistics.requests +
        mounts.list().length +
        (snapshots?.calls ?? 0),
    );
    return {
      async stop(final) {
        stopReleasing();
        await imageService?.close();
        await captured?.flushed();
        web?.close();
        await closeServer(server);
        await snapshots?.close();
        await driver.stop();
        await traces.close();
        await context.race.close();
        swarm?.close();
        await pool.close();
        await cache.close();
        if (final) await connection.close();
      },
    };
  } catch (error) {
    // With an inherited connection readers wait for the next daemon; a fresh one has none.
    if (mounted && !inherited) await connection.close();
    await cache.close().catch(() => undefined);
    throw error;
  }
}

/**
 * Opens the cache. Who inherits a connection is the heir: another daemon that has the root in the meantime finds out that
 * the FUSE mount is alive, and gives up.
 */
async function openRoot(
  { config, fuse }: DaemonOptions,
  needed: () => ReadonlySet<OciDigest>,
  log: FetchContext['log'],
): Promise<Cache> {
  for (const end = performance.now() + HEIR_MS; ; await sleep(100)) {
    try {
      return await openCache(config.root, {
        quota: config.cache.quota,
        lowWater: config.cache.lowWater / 100,
        needed,
        log,
      });
    } catch (error) {
      const isBusy = error instanceof NymphError && error.code === 'busy';
      if (!fuse?.inherited || !isBusy || performance.now() > end) throw error;
    }
  }
}

async function serveListen(
  { listen, token }: Config['control'],
  routes: Routes,
  log: (message: string, fields: object) => void,
): Promise<WebServer | undefined> {
  if (listen === undefined) return undefined;
  const { serveWeb } = await import('./web-server.ts');
  return serveWeb({ listen, token }, routes, log);
}

async function serveCri(
  { cri, containerd }: Config,
  captured: CapturedCredentials | undefined,
  log: Logger,
): Promise<ImageServiceProxy | undefined> {
  if (cri.address === undefined || !captured) return undefined;
  await claimSocket(cri.address);
  // gRPC's messages are several MB of code that most daemons never need.
  const { serveImageService } = await import('../cri/proxy.ts');
  return serveImageService({ address: cri.address, containerd: containerd.address, captured, log });
}

async function connect(
  { config, fuse, trees, lookUp, onEnd }: DaemonOptions,
  cache: Cache,
  pool: ThreadPool,
  log: FetchContext['log'],
): Promise<Connection> {
  if (fuse === undefined) return nativeConnection(log, cache);
  const options = {
    fuse,
    trees,
    threads: config.fuse.threads,
    log,
    onEnd: (error?: string) => onEnd(error ?? 'the FUSE mount was taken away'),
    directory: config.fuse.mountpoint,
    lookUp,
  };
  return kernelConnection(options, cache, pool);
}
