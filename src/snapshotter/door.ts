import type { Socket } from 'node:net';
import type { Log } from '../cache/health.ts';
import type { GrpcServer } from './grpc.ts';
import type { Snapshotter } from './snapshotter.ts';

/** Where containerd's connections arrive. Until one is expected, nothing of gRPC is in memory: 10 MB. */
export interface Door {
  connect(socket: Socket): void;
  /** Calls so far. */
  readonly calls: number;
  close(): Promise<void>;
}

const GRACE_MS = 3_000;

/**
 * @param expected containerd is here, or was: gRPC is loaded at once, because containerd gives a connection one second to
 * be greeted, and a machine that is busy may need more to load it
 */
export function createDoor(snapshotter: Snapshotter, expected: boolean, log: Log): Door {
  let server: Promise<GrpcServer> | undefined;
  let calls = 0;
  const called = () => void calls++;

  async function loadServer(): Promise<GrpcServer> {
    const { createGrpcServer } = await import('./grpc.ts');
    return createGrpcServer(snapshotter, called, log);
  }

  function loaded(): Promise<GrpcServer> {
    server ??= loadServer();
    return server;
  }

  if (expected) loaded().catch(() => undefined);

  return {
    connect(socket) {
      // Clients come and go; what they leave behind must not end the process.
      socket.on('error', () => undefined);
      loaded().then(
        (ready) => ready.connect(socket),
        (error) => {
          log('error', 'gRPC cannot be loaded', { error });
          socket.destroy();
          server = undefined;
        },
      );
    },
    get calls() {
      return calls;
    },
    async close() {
      await (await server)?.close(GRACE_MS);
    },
  };
}
