import { fileURLToPath } from 'node:url';
import type { Client, ClientReadableStream, Interceptor, ServiceDefinition } from '@grpc/grpc-js';
import type { Download, DownloadAnswer, LocalTask, Task } from './messages.ts';

/** dfdaemon's `DfdaemonDownload`. Errors are grpc-js's own: `verdict.ts` says what they mean. */
export interface DfdaemonClient {
  /** Loads what calls need, and connects: it takes 100 ms that no reader should wait for. */
  warm(): void;
  /** Answers as they come. No more than two are held here, however slowly they are taken: each has a whole piece. */
  download(download: Download, signal: AbortSignal): AsyncGenerator<DownloadAnswer, void>;
  /** @param timeout ms */
  statTask(taskId: string, timeout: number): Promise<Task>;
  statLocalTask(taskId: string, timeout: number): Promise<LocalTask>;
  close(): void;
}

const PROTO = fileURLToPath(new URL('../../../proto', import.meta.url));
const SERVICE = 'dfdaemon.v2.DfdaemonDownload';
/** Bytes on their way: with HTTP/2's own 64 KiB a piece of 4 MiB takes 64 turns. */
const WINDOW = 4 << 20;

/** @param endpoint `unix:///path` or `host:port`; gRPC's code is loaded, and the socket opened, at the first call */
export function connectDfdaemon(endpoint: string): DfdaemonClient {
  let prepared: ReturnType<typeof prepare> | undefined;
  const ready = () => (prepared ??= prepare(endpoint));

  async function unary<Answer>(name: string, request: object, timeout: number): Promise<Answer> {
    const { grpc, client, service } = await ready();
    const { path, requestSerialize, responseDeserialize } = service[name];
    return new Promise<Answer>((resolve, reject) => {
      client.makeUnaryRequest<object, Answer>(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        new grpc.Metadata(),
        { deadline: Date.now() + timeout },
        (error, answer) => (error ? reject(error) : resolve(answer as Answer)),
      );
    });
  }

  return {
    warm: () =>
      void ready()
        .then(({ client }) => client.getChannel().getConnectivityState(true))
        .catch(() => {}),
    async *download(download, signal) {
      const { grpc, client, service } = await ready();
      const { path, requestSerialize, responseDeserialize } = service.DownloadTask;
      const door = oneByOne(grpc);
      const stream: ClientReadableStream<DownloadAnswer> = client.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        { download },
        new grpc.Metadata(),
        { interceptors: [door.interceptor] },
      );
      const cancel = () => {
        stream.cancel();
        door.next();
      };
      if (signal.aborted) cancel();
      signal.addEventListener('abort', cancel, { once: true });
      try {
        for await (const answer of stream) {
          yield answer as DownloadAnswer;
          door.next();
        }
      } finally {
        signal.removeEventListener('abort', cancel);
        cancel();
      }
    },
    statTask: (taskId, timeout) => unary('StatTask', { taskId }, timeout),
    statLocalTask: (taskId, timeout) => unary('StatLocalTask', { taskId }, timeout),
    close() {
      void prepared?.then(({ client }) => client.close()).catch(() => {});
    },
  };
}

async function prepare(endpoint: string) {
  // They are several MB of code that most daemons never need.
  const [grpc, { load }] = await Promise.all([import('@grpc/grpc-js'), import('@grpc/proto-loader')]);
  const loaded = await load('dragonfly/dfdaemon.proto', { includeDirs: [PROTO], longs: Number, oneofs: true });
  const client: Client = new grpc.Client(endpoint, grpc.credentials.createInsecure(), {
    'grpc.default_authority': 'localhost',
    'grpc.max_receive_message_length': -1,
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 1_000,
    'grpc.use_local_subchannel_pool': 1,
    'grpc-node.flow_control_window': WINDOW,
  });
  return { grpc, client, service: loaded[SERVICE] as ServiceDefinition };
}

/** Lets one message through at a time: a stream of grpc-js would read sixteen of them ahead. */
function oneByOne(grpc: typeof import('@grpc/grpc-js')): { interceptor: Interceptor; next: () => void } {
  let open = true;
  let held: (() => void) | undefined;
  const interceptor: Interceptor = (options, nextCall) =>
    new grpc.InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        next(metadata, {
          onReceiveMessage(message, deliver) {
            if (!open) {
              held = () => deliver(message);
              return;
            }
            open = false;
            deliver(message);
          },
        });
      },
    });
  return {
    interceptor,
    next() {
      const deliver = held;
      held = undefined;
      open = deliver === undefined;
      deliver?.();
    },
  };
}
