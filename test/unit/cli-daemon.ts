import { spawn } from 'node:child_process';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ImageInfo, MountInfo, Status } from '../../src/daemon/api.ts';
import { type Routes, serveControl } from '../../src/daemon/control-server.ts';

/** A control server with answers made up by a test, and the command line run against it as a process of its own. */

export const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

export interface Outcome {
  status: number | null;
  out: string;
  err: string;
}

/** A directory that goes away with the test. */
export async function scratch(t: TestContext): Promise<string> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'nymph-cli-')));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Serves `routes`; returns the socket's path. */
export async function serve(t: TestContext, routes: Partial<Routes>): Promise<string> {
  const address = join(await scratch(t), 'control.sock');
  const server = await serveControl(
    address,
    { calls: {}, works: {}, ...routes },
    () => {},
    () => {},
  );
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return address;
}

/** Runs `nymph` with arguments; `started` is given the process. */
export function nymph(
  args: readonly string[],
  options: {
    cwd?: string;
    env?: Record<string, string>;
    /** For standard input. */
    input?: Uint8Array;
    started?: (child: ReturnType<typeof spawn>) => void;
  } = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, ...args], {
      cwd: options.cwd,
      env: { ...process.env, NO_COLOR: '1', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    // A command that reads nothing may be gone already.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
    const outcome: Outcome = { status: null, out: '', err: '' };
    child.stdout.on('data', (data) => (outcome.out += data));
    child.stderr.on('data', (data) => (outcome.err += data));
    child.on('error', reject);
    child.on('close', (status) => resolve({ ...outcome, status }));
    options.started?.(child);
  });
}

export const IMAGE: ImageInfo = {
  reference: 'registry.example/app:nydus',
  digest: `sha256:${'ab'.repeat(32)}`,
  format: 'rafs-v6',
  inodes: 1234,
  size: 3 * 2 ** 20,
  ready: 2 ** 20,
  storedSize: 2 ** 20,
  mounts: ['/mnt/app'],
  pinned: false,
  blobs: [
    {
      id: 'cd'.repeat(32),
      size: 3 * 2 ** 20,
      ready: 2 ** 20,
      storedSize: 2 ** 20,
      traits: ['zran'],
      guarantee: 'chunk',
    },
  ],
  verifiable: true,
};

export const MOUNT: MountInfo = {
  directory: '/mnt/app',
  reference: IMAGE.reference,
  digest: IMAGE.digest,
  kind: 'erofs',
  since: 1_700_000_000_000,
  state: 'ok',
};

export const STATUS: Status = {
  // Above the kernel's largest process id, 2^22: never somebody's.
  health: {
    version: '0.1.0',
    pid: 5000002,
    supervisor: 5000001,
    uptime: 7200,
    root: '/var/lib/nymph',
    installed: '/usr',
  },
  ready: { ready: false, problems: ['metrics are not served on :9470'] },
  limits: { cpus: 2, memory: 512 * 2 ** 20, cgroup: ['memory'], openFiles: { limit: 1024, low: 'few files' } },
  cache: {
    bytes: 5 * 2 ** 20,
    quota: 2 ** 30,
    blobs: 3,
    openBlobs: 1,
    images: 1,
    writable: true,
    evicted: { blobs: 0, images: 0, bytes: 0 },
  },
  fuse: { driver: 'kernel', requests: { READ: 9 }, hits: 1000, hitBytes: 2 ** 20, faults: 12, waiting: 1 },
  fetch: {
    bytes: { 'registry.example': 2 ** 20 },
    sources: {
      'registry.example': {
        bytes: 2 ** 20,
        requests: 7,
        errors: 1,
        ended: { ok: 6, error: 1, cancelled: 0 },
        errorTypes: { timeout: 1 },
        latencyMs: { p50: 11, p95: 30, bounds: [10, 100], counts: [2, 5, 0], sum: 120 },
        hedges: { won: 2, lost: 1 },
      },
    },
    requests: 7,
    retries: 1,
    badChunks: 0,
    failed: 0,
    faultMs: { p50: 4, p99: 80, max: 200 },
    faultLatencyMs: { bounds: [10, 100], counts: [9, 2, 1], sum: 300 },
  },
  mounts: [MOUNT, { ...MOUNT, directory: '/mnt/bad', state: 'the registry refuses' }],
  images: [IMAGE],
};
