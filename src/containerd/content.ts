import { fileURLToPath } from 'node:url';
import type { ServiceClientConstructor } from '@grpc/grpc-js';
import { NymphError } from '../errors.ts';

/** What containerd knows of images and their blobs, asked over its own socket. */
export interface ContentStore {
  /** Blobs of a namespace with all of these labels. @throws NymphError `source` if containerd does not answer */
  withLabels(namespace: string, labels: Record<string, string>, signal: AbortSignal): Promise<StoredContent[]>;
  /** Names of the images of a namespace that begin at an index or manifest. @throws as `withLabels` */
  namesOf(namespace: string, digest: string, signal: AbortSignal): Promise<string[]>;
  close(): void;
}

export interface StoredContent {
  digest: string;
  labels: Record<string, string>;
}

const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));
const FILES = ['content', 'images'].map((name) => `containerd/services/${name}/v1/${name}.proto`);
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
    await answered(client.content({ filters: [filter.join(',')] }, namespace), signal, async (stream) => {
      for await (const { info } of stream) found.push(...info);
    });
    return found;
  }

  async function namesOf(namespace: string, digest: string, signal: AbortSignal): Promise<string[]> {
    const client = await connected();
    const names: string[] = [];
    await answered(client.images({ filters: [`target.digest==${digest}`] }, namespace), signal, async (call) => {
      for (const { name } of (await call.answer).images) names.push(name);
    });
    return names;
  }

  async function answered<Call extends Cancellable>(
    call: Call,
    signal: AbortSignal,
    read: (call: Call) => Promise<void>,
  ): Promise<void> {
    const abort = () => call.cancel();
    signal.addEventListener('abort', abort, { once: true });
    try {
      await read(call);
    } catch (error) {
      throw new NymphError(
        'source',
        `containerd at ${address} does not tell what it has: ${(error as Error).message}`,
        {
          hint: 'Name its socket as containerd.address in the configuration.',
          cause: error,
          retryable: true,
        },
      );
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  return { withLabels, namesOf, close: () => void connecting?.then((client) => client.close()) };
}

interface Cancellable {
  cancel(): void;
}

interface Filters {
  filters: string[];
}

interface Client {
  content(request: Filters, namespace: string): AsyncIterable<{ info: StoredContent[] }> & Cancellable;
  images(request: Filters, namespace: string): { answer: Promise<{ images: { name: string }[] }> } & Cancellable;
  close(): void;
}

/** Loaded at the first question: most daemons never ask. */
async function connect(address: string): Promise<Client> {
  const [grpc, { load }] = await Promise.all([import('@grpc/grpc-js'), import('@grpc/proto-loader')]);
  const definition = await load(FILES, { includeDirs: [PROTO], longs: Number, defaults: true });
  const { containerd } = grpc.loadPackageDefinition(definition) as never as {
    containerd: { services: Record<string, { v1: Record<string, ServiceClientConstructor> }> };
  };
  const open = (Service: ServiceClientConstructor) =>
    new Service(`unix://${address}`, grpc.credentials.createInsecure(), { 'grpc.default_authority': 'localhost' });
  const content = open(containerd.services.content.v1.Content);
  const images = open(containerd.services.images.v1.Images);
  const metadata = (namespace: string) => {
    const made = new grpc.Metadata();
    made.set('containerd-namespace', namespace);
    return made;
  };
  const options = () => ({ deadline: Date.now() + ANSWER_TIMEOUT });
  return {
    content: (request, namespace) => content.List(request, metadata(namespace), options()),
    images(request, namespace) {
      let cancel = () => {};
      const answer = new Promise<{ images: { name: string }[] }>((resolve, reject) => {
        const call = images.List(request, metadata(namespace), options(), (error: Error | null, result: never) =>
          error ? reject(error) : resolve(result),
        );
        cancel = () => call.cancel();
      });
      return { answer, cancel: () => cancel() };
    },
    close() {
      content.close();
      images.close();
    },
  };
}

function quote(text: string): string {
  return JSON.stringify(text);
}
