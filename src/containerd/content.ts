import { fileURLToPath } from 'node:url';
import { NymphError } from '../errors.ts';

/** containerd's content store, asked over its own socket. */
export interface ContentStore {
  /** Blobs of a namespace with all of these labels. @throws NymphError `source` if containerd does not answer */
  withLabels(namespace: string, labels: Record<string, string>, signal: AbortSignal): Promise<StoredContent[]>;
  close(): void;
}

export interface StoredContent {
  digest: string;
  labels: Record<string, string>;
}

const PROTO = fileURLToPath(new URL('../../proto/containerd/services/content/v1/content.proto', import.meta.url));
/** It is on this machine: whoever waits longer waits for one that hangs, ms. */
const ANSWER_TIMEOUT = 5_000;

/** @param address path of containerd's socket; nothing is opened before the first question */
export function createContentStore(address: string): ContentStore {
  let connecting: Promise<Client> | undefined;

  const connected = () => {
    connecting ??= connect(address);
    return connecting;
  };

  async function withLabels(
    namespace: string,
    labels: Record<string, string>,
    signal: AbortSignal,
  ): Promise<StoredContent[]> {
    const client = await connected();
    const filter = Object.entries(labels).map(([key, value]) => `labels.${quote(key)}==${quote(value)}`);
    const found: StoredContent[] = [];
    const stream = client.list({ filters: [filter.join(',')] }, namespace);
    const abort = () => stream.cancel();
    signal.addEventListener('abort', abort, { once: true });
    try {
      for await (const { info } of stream) found.push(...info);
      return found;
    } catch (error) {
      throw new NymphError(
        'source',
        `containerd at ${address} does not tell what it has: ${(error as Error).message}`,
        {
          hint: 'Name its socket as snapshotter.containerd in the configuration.',
          cause: error,
          retryable: true,
        },
      );
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  return { withLabels, close: () => void connecting?.then((client) => client.close()) };
}

interface Client {
  list(
    request: { filters: string[] },
    namespace: string,
  ): AsyncIterable<{ info: StoredContent[] }> & { cancel(): void };
  close(): void;
}

/** Loaded at the first question: most daemons never ask. */
async function connect(address: string): Promise<Client> {
  const [grpc, { load }] = await Promise.all([import('@grpc/grpc-js'), import('@grpc/proto-loader')]);
  const definition = await load(PROTO, { longs: Number, defaults: true });
  const loaded = grpc.loadPackageDefinition(definition) as unknown as {
    containerd: { services: { content: { v1: { Content: typeof grpc.Client } } } };
  };
  const client = new loaded.containerd.services.content.v1.Content(
    `unix://${address}`,
    grpc.credentials.createInsecure(),
    { 'grpc.default_authority': 'localhost' },
  ) as unknown as { list: (...args: unknown[]) => ReturnType<Client['list']>; close(): void };
  return {
    list(request, namespace) {
      const metadata = new grpc.Metadata();
      metadata.set('containerd-namespace', namespace);
      return client.list(request, metadata, { deadline: Date.now() + ANSWER_TIMEOUT });
    },
    close: () => client.close(),
  };
}

function quote(text: string): string {
  return JSON.stringify(text);
}
