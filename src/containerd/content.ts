import { NymphError } from '../errors.ts';
import { connectContainerd } from './connection.ts';

/** What containerd knows of images and their blobs, asked over its own socket. */
export interface ContentStore {
  /**
   * Blobs of a namespace that have one of these labels (name, value).
   * @throws NymphError `source` if containerd does not answer
   */
  withLabel(
    namespace: string,
    labels: readonly (readonly [string, string])[],
    signal: AbortSignal,
  ): Promise<StoredContent[]>;
  /** Names of the images of a namespace that begin at an index or manifest. @throws as `withLabel` */
  namesOf(namespace: string, digest: string, signal: AbortSignal): Promise<string[]>;
  /** The bytes of a blob of at most 512 MiB; `undefined` if it is not to be had, for whatever reason. */
  read(namespace: string, digest: string, signal: AbortSignal): Promise<Uint8Array | undefined>;
  close(): void;
}

export interface StoredContent {
  digest: string;
  labels: Record<string, string>;
}

/** It is on this machine: whoever waits longer waits for one that hangs, ms. */
const ANSWER_TIMEOUT = 5_000;
/** What is read is held in memory. */
const MOST_BYTES = 512 << 20;

/** @param address path of containerd's socket; nothing is opened before the first question */
export function createContentStore(address: string): ContentStore {
  const connection = connectContainerd(address);

  const told = async <Answer>(answer: Promise<Answer>): Promise<Answer> => {
    try {
      return await answer;
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
    }
  };

  return {
    async withLabel(namespace, labels, signal) {
      const filters = labels.map(([name, value]) => `labels.${quote(name)}==${quote(value)}`);
      const answers = connection.list<{ info: StoredContent[] }>(
        'content',
        'List',
        { filters },
        { namespace, signal, timeout: ANSWER_TIMEOUT },
      );
      const found: StoredContent[] = [];
      await told(eachOf(answers, ({ info }) => void found.push(...info)));
      return found;
    },
    async namesOf(namespace, digest, signal) {
      const { images } = await told(
        connection.call<{ images: { name: string }[] }>(
          'images',
          'List',
          { filters: [`target.digest==${digest}`] },
          { namespace, signal, timeout: ANSWER_TIMEOUT },
        ),
      );
      return images.map(({ name }) => name);
    },
    async read(namespace, digest, signal) {
      const parts: Uint8Array[] = [];
      let size = 0;
      try {
        const circumstances = { namespace, signal, timeout: ANSWER_TIMEOUT };
        for await (const { data } of connection.list<{ data: Uint8Array }>(
          'content',
          'Read',
          { digest },
          circumstances,
        )) {
          size += data.length;
          if (size > MOST_BYTES) return undefined;
          parts.push(data);
        }
        return Buffer.concat(parts, size);
      } catch {
        // It is only a short cut: the registry has it too.
        return undefined;
      }
    },
    close: () => connection.close(),
  };
}

async function eachOf<T>(values: AsyncIterable<T>, act: (value: T) => void): Promise<void> {
  for await (const value of values) act(value);
}

/** As containerd's filters want it. */
function quote(text: string): string {
  return JSON.stringify(text);
}
