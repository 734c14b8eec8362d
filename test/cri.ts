/** A containerd for tests as far as the CRI goes: a real gRPC server on a unix socket, and a client, both for raw bytes. */
import { fileURLToPath } from 'node:url';
import {
  Client,
  type ClientOptions,
  credentials,
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServiceError,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { loadSync, type ServiceDefinition } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../proto/', import.meta.url));
const bytes = (value: Buffer) => value;

/** A method of any service, whose messages are bytes. */
function rawMethod(path: string, responseStream = false): MethodDefinition<Buffer, Buffer> {
  return {
    path,
    requestStream: false,
    responseStream,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };
}

/** @param handlers by path; a path that ends with `*` streams its answers */
export async function serveRaw(address: string, handlers: Record<string, UntypedHandleCall>): Promise<Server> {
  const server = new Server({ 'grpc.max_receive_message_length': 64 << 20 });
  for (const [name, handler] of Object.entries(handlers)) {
    const path = name.replace(/\*$/, '');
    server.addService({ call: rawMethod(path, name !== path) }, { call: handler });
  }
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${address}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  );
  return server;
}

export interface Answer {
  error?: ServiceError;
  body?: Buffer;
  headers?: Metadata;
  trailers?: Metadata;
}

export interface RawClient {
  call(
    path: string,
    body: Buffer,
    options?: { metadata?: Record<string, string>; deadline?: number; signal?: AbortSignal },
  ): Promise<Answer>;
  stream(path: string, body: Buffer): Promise<{ error?: ServiceError; bodies: Buffer[] }>;
  close(): void;
}

export function rawClient(address: string, options: ClientOptions = {}): RawClient {
  const client = new Client(`unix:${address}`, credentials.createInsecure(), {
    'grpc.default_authority': 'localhost',
    'grpc.max_receive_message_length': 64 << 20,
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 200,
    'grpc.enable_retries': 0,
    ...options,
  });
  return {
    call: (path, body, { metadata = {}, deadline, signal } = {}) =>
      new Promise((resolve) => {
        const headers = new Metadata();
        for (const [key, value] of Object.entries(metadata)) headers.set(key, value);
        const answer: Answer = {};
        const call = client.makeUnaryRequest(
          path,
          bytes,
          bytes,
          body,
          headers,
          deadline === undefined ? {} : { deadline: Date.now() + deadline },
          (error, response) => {
            if (error) answer.error = error;
            if (response) answer.body = response;
          },
        );
        call.on('metadata', (received) => (answer.headers = received));
        call.on('status', (status) => {
          answer.trailers = status.metadata;
          // The callback comes in the same turn.
          setImmediate(() => resolve(answer));
        });
        signal?.addEventListener('abort', () => call.cancel());
      }),
    stream: (path, body) =>
      new Promise((resolve) => {
        const bodies: Buffer[] = [];
        const call = client.makeServerStreamRequest(path, bytes, bytes, body);
        call.on('data', (piece: Buffer) => bodies.push(piece));
        call.on('error', (error: ServiceError) => resolve({ error, bodies }));
        call.on('end', () => resolve({ bodies }));
      }),
    close: () => client.close(),
  };
}

export const PULL_IMAGE = '/runtime.v1.ImageService/PullImage';

export interface TestAuth {
  username?: string;
  password?: string;
  auth?: string;
  server_address?: string;
  identity_token?: string;
  registry_token?: string;
}

/** A PullImageRequest as the kubelet makes it, and what a later version may add: field 19, a text. */
export function pullRequest(image: string, auth?: TestAuth): Buffer {
  const service = loadSync('runtime/v1/images.proto', { includeDirs: [PROTO], keepCase: true })[
    'runtime.v1.ImageService'
  ] as ServiceDefinition;
  const known = service.PullImage.requestSerialize({ image: { image }, ...(auth ? { auth } : {}) });
  return Buffer.concat([known, Buffer.from([0x9a, 0x01, 5]), Buffer.from('later')]);
}
