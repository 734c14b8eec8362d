import { NymphError } from '../../errors.ts';
import { FILES_MANIFEST } from '../descriptor.ts';
import type { HttpNetwork } from '../http/network.ts';
import { formatReference, type HubReference } from '../reference.ts';
import type { Repository, Source } from '../source.ts';
import type { HubSettings } from './settings.ts';

/**
 * A repository of a hub of models. Its manifest is made up from the listing that its driver gives: which files there are
 * at one commit, and where. Until something is asked of it, neither drivers nor the code around them are loaded.
 */
export function openHubRepository(reference: HubReference, network: HttpNetwork, settings: HubSettings): Repository {
  const name = formatReference(reference);
  const { scheme } = reference;
  let opening: Promise<OpenedHub> | undefined;
  const opened = () => {
    opening ??= load(scheme, settings);
    // A driver may be added, and a setting put right, while the repository is in use.
    opening.catch(() => {
      opening = undefined;
    });
    return opening;
  };

  return {
    kind: 'hub',
    reference: name,
    async resolve(signal) {
      const { hub, plugin } = await opened();
      const { listHub } = await import('./listing.ts');
      const { bytes, sha256 } = await listHub(network, hub, plugin, reference.name, signal);
      return { descriptor: { mediaType: FILES_MANIFEST, digest: `sha256:${sha256}`, size: bytes.length }, bytes };
    },
    manifest: async (digest) => {
      throw new NymphError('not-found', `${name} has no manifest ${digest}: a hub has listings alone`);
    },
    get: async ({ digest }) => {
      throw new NymphError('not-found', `${name} has no object ${digest}: a hub has files alone`);
    },
    open: ({ location, size }) => openWhenRead(scheme, location, size, network, opened),
    close: async () => {},
  };
}

type OpenedHub = Awaited<ReturnType<typeof load>>;

async function load(scheme: string, settings: HubSettings) {
  const [{ findPlugin }, { openHub }] = await Promise.all([import('../../plugins/store.ts'), import('./hub.ts')]);
  const plugin = await findPlugin(scheme, settings.pluginsDirectory);
  return { plugin, hub: openHub(plugin, settings) };
}

function openWhenRead(
  scheme: string,
  location: string | undefined,
  size: number | undefined,
  network: HttpNetwork,
  opened: () => Promise<OpenedHub>,
): Source {
  if (location === undefined || !location.startsWith(`${scheme}:`))
    throw new NymphError('internal', `a file of ${scheme}:// has the location ${JSON.stringify(location)}`);
  let opening: Promise<Source> | undefined;
  const senders = new WeakMap<AsyncIterable<Uint8Array>, Source>();

  const sourceOf = async (): Promise<Source> => {
    const { hub } = await opened();
    const { openHubFile } = await import('./file.ts');
    return openHubFile(network, hub, location, size);
  };

  return {
    name: scheme,
    ...(size === undefined ? {} : { size }),
    async read(offset, length, signal) {
      opening ??= sourceOf();
      const source = await opening.catch((error) => {
        opening = undefined;
        throw error;
      });
      const stream = await source.read(offset, length, signal);
      senders.set(stream, source);
      return stream;
    },
    distrust: (stream) => senders.get(stream)?.distrust?.(stream),
  };
}
