import { type EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { load } from '@grpc/proto-loader';
import type { Log } from '../cache/health.ts';
import { NymphError } from '../errors.ts';
import { toGrpcError } from './grpc-errors.ts';
import {
  type AnyRequest,
  type CommitRequest,
  type InfoMessage,
  infoMessage,
  type KeyRequest,
  type ListRequest,
  messageBatches,
  mountsMessage,
  type PrepareRequest,
  type UpdateRequest,
} from './messages.ts';
import { ofPlugin, type PluginSnapshots } from './plugin.ts';
import type { Snapshotter } from './snapshotter.ts';

/** The service on connections that come from outside. This file brings grpc-js, so it is loaded at the first connection. */
export interface GrpcServer {
  connect(socket: Socket): void;
  /** Ends all connections, after the calls under way or `grace` ms. */
  close(grace: number): Promise<void>;
}

const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));
const SERVICE = 'containerd/services/snapshots/v1/snapshots.proto';
/** What containerd takes and sends, bytes. */
const MOST_MESSAGE = 16 << 20;
const INTERNAL = 13;

const empty = () => ({});

/** Aborted when the client is gone or its deadline over. */
function endingOf(call: EventEmitter): AbortController {
  const ending = new AbortController();
  // It comes after each call, also after one that was answered: an error of our own costs less than the default one.
  call.once('cancelled', () => ending.abort(CANCELLED));
  return ending;
}

const CANCELLED = new NymphError('cancelled', 'the caller went away');

/** @param called told of each call that begins */
export async function createGrpcServer(snapshotter: Snapshotter, called: () => void, log: Log): Promise<GrpcServer> {
  const definition = await load(SERVICE, { includeDirs: [PROTO], longs: Number, enums: String, defaults: true });
  const root = loadPackageDefinition(definition) as unknown as {
    containerd: { services: { snapshots: { v1: { Snapshots: ServiceClientConstructor } } } };
  };
  // Channelz counts calls and sockets for a service that nobody asks here.
  const server = new Server({ 'grpc.max_receive_message_length': MOST_MESSAGE, 'grpc.enable_channelz': 0 });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());

  function unary<Request extends AnyRequest, Response>(
    act: (snapshots: PluginSnapshots, request: Request, signal: AbortSignal) => Promise<Response>,
  ): handleUnaryCall<Request, Response> {
    return (call, callback) => {
      called();
      const ending = endingOf(call);
      act(ofPlugin(snapshotter, call.request.snapshotter), call.request, ending.signal).then(
        (response) => callback(null, response),
        (error) => callback(failure(call.getPath(), error)),
      );
    };
  }

  const list: handleServerStreamingCall<ListRequest, { info: InfoMessage[] }> = (call) => {
    called();
    const ending = endingOf(call);
    sendList(call, ending.signal).catch((error) => {
      if (!ending.signal.aborted) call.emit('error', failure(call.getPath(), error));
    });
  };

  function failure(path: string, error: unknown): Partial<ServiceError> {
    const converted = toGrpcError(error);
    log(converted.code === INTERNAL ? 'error' : 'debug', 'a call of containerd failed', { path, error });
    return converted;
  }

  async function sendList(call: ServerWritableStream<ListRequest, { info: InfoMessage[] }>, signal: AbortSignal) {
    for await (const infos of ofPlugin(snapshotter, call.request.snapshotter).list(call.request.filters)) {
      for (const info of messageBatches(infos)) {
        if (signal.aborted) return;
        if (!call.write({ info })) await once(call, 'drain', { signal });
      }
    }
    call.end();
  }

  server.addService(root.containerd.services.snapshots.v1.Snapshots.service, {
    Prepare: unary((snapshots, { key, parent, labels }: PrepareRequest, signal) =>
      snapshots.prepare(key, parent, labels, signal).then(mountsMessage),
    ),
    View: unary((snapshots, { key, parent, labels }: PrepareRequest, signal) =>
      snapshots.view(key, parent, labels, signal).then(mountsMessage),
    ),
    Mounts: unary((snapshots, { key }: KeyRequest, signal) => snapshots.mounts(key, signal).then(mountsMessage)),
    Commit: unary((snapshots, { name, key, labels, parent }: CommitRequest) =>
      snapshots.commit(name, key, labels, parent).then(empty),
    ),
    Remove: unary((snapshots, { key }: KeyRequest) => snapshots.remove(key).then(empty)),
    Stat: unary(async (snapshots, { key }: KeyRequest) => ({ info: infoMessage(snapshots.stat(key)) })),
    Update: unary(async (snapshots, { info, updateMask }: UpdateRequest) => {
      const updated = await snapshots.update(info?.name ?? '', info?.labels ?? {}, updateMask?.paths ?? []);
      return { info: infoMessage(updated) };
    }),
    Usage: unary((snapshots, { key }: KeyRequest) => snapshots.usage(key)),
    Cleanup: unary((snapshots) => snapshots.cleanup().then(empty)),
    List: list,
  });

  return {
    connect: (socket) => injector.injectConnection(socket),
    close: (grace) =>
      new Promise((resolve) => {
        injector.drain(grace);
        const force = setTimeout(() => server.forceShutdown(), grace);
        server.tryShutdown(() => {
          clearTimeout(force);
          resolve();
        });
      }),
  };
}
