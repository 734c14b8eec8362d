/** A client of a snapshotter's socket, as containerd's proxy is one. */
import { fileURLToPath } from 'node:url';
import {
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../proto/', import.meta.url));

export interface SnapshotInfo {
  name: string;
  parent: string;
  kind: string;
  labels: Record<string, string>;
  createdAt: { seconds: string; nanos: number };
  updatedAt: { seconds: string; nanos: number };
}

export interface Mount {
  type: string;
  source: string;
  options: string[];
}

export interface SnapshotsClient {
  /** A unary call, which rejects with gRPC's error (`code`, `details`). */
  call<T = Record<string, never>>(method: string, request: object): Promise<T>;
  list(...filters: string[]): Promise<SnapshotInfo[]>;
  close(): void;
}

/**
 * @param snapshotter name of containerd's plugin with that address: each has snapshots of its own
 * @param namespace for containerd's own socket, which wants one
 */
export function snapshotsClient(address: string, snapshotter = 'nymph', namespace?: string): SnapshotsClient {
  const metadata = new Metadata();
  if (namespace !== undefined) metadata.set('containerd-namespace', namespace);
  const options = { includeDirs: [PROTO], longs: String, enums: String, defaults: true };
  const definition = loadSync('containerd/services/snapshots/v1/snapshots.proto', options);
  const root = loadPackageDefinition(definition) as unknown as {
    containerd: { services: { snapshots: { v1: { Snapshots: ServiceClientConstructor } } } };
  };
  const client = new root.containerd.services.snapshots.v1.Snapshots(
    `unix:${address}`,
    credentials.createInsecure(),
    // Each client has a connection of its own.
    { 'grpc.default_authority': 'localhost', 'grpc.use_local_subchannel_pool': 1 },
  );
  return {
    call: (method, request) =>
      new Promise((resolve, reject) => {
        client[method]({ snapshotter, ...request }, metadata, (error: ServiceError | null, response: never) =>
          error ? reject(error) : resolve(response),
        );
      }),
    async list(...filters) {
      const infos: SnapshotInfo[] = [];
      for await (const { info } of client.List({ snapshotter, filters }, metadata)) infos.push(...info);
      return infos;
    },
    close: () => client.close(),
  };
}
