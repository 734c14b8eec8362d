import { fileURLToPath } from 'node:url';
import type { Client, ClientDuplexStream, ClientReadableStream, ServiceDefinition, ServiceError } from '@grpc/grpc-js';
import { NymphError } from '../errors.ts';
import { callError } from './status.ts';

/** containerd's services over its own socket: methods and messages are those of `proto/containerd`, fields in camel case. */
export interface Connection {
  /** Path of the socket. */
  readonly address: string;
  /**
   * One request, one answer.
   * @throws NymphError; `isStatus` (status.ts) tells what containerd said
   */
  call<Answer>(service: Service, method: string, request: object, circumstances: Circumstances): Promise<Answer>;
  /** One request, any number of answers. */
  list<Answer>(
    service: Service,
    method: string,
    request: object,
    circumstances: Circumstances,
  ): AsyncGenerator<Answer, void>;
  /** Any number of requests, each with one answer. */
  converse<Request, Answer>(
    service: Service,
    method: string,
    circumstances: Circumstances,
  ): Promise<Conversation<Request, Answer>>;
  close(): void;
}

export interface Conversation<Request, Answer> {
  ask(request: Request): Promise<Answer>;
  /** Ends it, whatever is under way. */
  close(): void;
}

export interface Circumstances {
  namespace: string;
  /** Id of the lease that holds what the call makes. */
  lease?: string;
  signal?: AbortSignal;
  /** ms; without one a call takes as long as it wants, as unpacking does. */
  timeout?: number;
}

/** `<key>` is service `containerd.services.<key>.v1.<value>` in `<key>/v1/<key>.proto`. */
const SERVICES = {
  containers: 'Containers',
  content: 'Content',
  diff: 'Diff',
  images: 'Images',
  introspection: 'Introspection',
  leases: 'Leases',
  snapshots: 'Snapshots',
  version: 'Version',
} as const;

export type Service = keyof typeof SERVICES;

/** What containerd sends, bytes. */
const MOST_MESSAGE = 16 << 20;
const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));

/** @param address path of the socket; nothing is loaded or opened before the first call */
export function connectContainerd(address: string): Connection {
  const definitions = new Map<Service, Promise<ServiceDefinition>>();
  let client: Client | undefined;

  /** What a call is made with. */
  async function prepare(service: Service, name: string, { namespace, lease, timeout }: Circumstances) {
    const grpc = await import('@grpc/grpc-js');
    client ??= new grpc.Client(`unix://${address}`, grpc.credentials.createInsecure(), {
      // A Go server wants a host's name there; without it, it gets the socket's path.
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': MOST_MESSAGE,
    });
    const definition = definitions.get(service) ?? loadService(service);
    definitions.set(service, definition);
    const metadata = new grpc.Metadata();
    metadata.set('containerd-namespace', namespace);
    if (lease !== undefined) metadata.set('containerd-lease', lease);
    const method = (await definition)[name];
    const options = timeout === undefined ? {} : { deadline: Date.now() + timeout };
    return { client, method, metadata, options };
  }

  return {
    address,
    async call<Answer>(service: Service, name: string, request: object, circumstances: Circumstances) {
      const { client, method, metadata, options } = await prepare(service, name, circumstances);
      const { path, requestSerialize, responseDeserialize } = method;
      return new Promise<Answer>((resolve, reject) => {
        const call = client.makeUnaryRequest<object, Answer>(
          path,
          requestSerialize,
          responseDeserialize,
          request,
          metadata,
          options,
          (error, answer) => {
            forget();
            if (error) reject(callError(path, error, circumstances.signal));
            else resolve(answer as Answer);
          },
        );
        const forget = onAbort(circumstances.signal, () => call.cancel());
      });
    },
    async *list(service, name, request, circumstances) {
      const { client, method, metadata, options } = await prepare(service, name, circumstances);
      const { path, requestSerialize, responseDeserialize } = method;
      yield* answers(
        path,
        client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata, options),
        circumstances.signal,
      );
    },
    async converse<Question, Answer>(service: Service, name: string, circumstances: Circumstances) {
      const { client, method, metadata, options } = await prepare(service, name, circumstances);
      const { path, requestSerialize, responseDeserialize } = method;
      const stream: ClientDuplexStream<unknown, Answer> = client.makeBidiStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        metadata,
        options,
      );
      const iterator = answers(path, stream, circumstances.signal);
      return {
        async ask(request: Question) {
          stream.write(request);
          const { value, done } = await iterator.next();
          if (done) throw new NymphError('daemon', `containerd ended ${path} without an answer`);
          return value;
        },
        close: () => stream.cancel(),
      };
    },
    close: () => client?.close(),
  };
}

async function loadService(service: Service): Promise<ServiceDefinition> {
  const { load } = await import('@grpc/proto-loader');
  const loaded = await load(`containerd/services/${service}/v1/${service}.proto`, {
    includeDirs: [PROTO],
    longs: Number,
    enums: String,
    defaults: true,
  });
  return loaded[`containerd.services.${service}.v1.${SERVICES[service]}`] as ServiceDefinition;
}

async function* answers<Answer>(
  path: string,
  stream: ClientReadableStream<Answer>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Answer, void> {
  const forget = onAbort(signal, () => stream.cancel());
  try {
    for await (const answer of stream) yield answer;
  } catch (error) {
    throw callError(path, error as ServiceError, signal);
  } finally {
    forget();
    stream.cancel();
  }
}

/** @returns what takes the listener away again */
function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal?.aborted) act();
  signal?.addEventListener('abort', act, { once: true });
  return () => signal?.removeEventListener('abort', act);
}
