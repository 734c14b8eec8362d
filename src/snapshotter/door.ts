import type { Socket } from 'node:net';
import type { Log } from '../cache/health.ts';
import type { GrpcServer } from './grpc.ts';
import type { Snapshotter } from './snapshotter.ts';

/**
 * Where containerd's connections arrive. Until the first one comes, nothing of gRPC is in memory where containerd has no
 * snapshots; where it has some it is loaded at once, for containerd gives a connection little time (1 s) to be greeted.
 */
export interface Door {
  connect(socket: Socket): void;
  /** Calls so far. */
  readonly calls: number;
  close(): Promise<void>;
}

const GRACE_MS = 3_000;

export function createDoor(snapshotter: Snapshotter, log: Log): Door {
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

  if (snapshotter.used) loaded().catch(() => undefined);

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
