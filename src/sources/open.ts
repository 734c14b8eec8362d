import { NymphError } from '../errors.ts';
import { openFolderRepository } from './folder.ts';
import { openHubRepository } from './hub/repository.ts';
import { openLayoutRepository } from './layout.ts';
import { openLayoutTarget } from './layout-target.ts';
import { openNydusdRepository } from './nydusd/repository.ts';
import {
  formatReference,
  type HubReference,
  type NydusdReference,
  parseReference,
  type Reference,
  type RegistryReference,
} from './reference.ts';
import { createRegistryNetwork, type NetworkOptions, type RegistryNetwork } from './registry/network.ts';
import { openRegistryRepository } from './registry/repository.ts';
import { openRegistryTarget } from './registry/target.ts';
import type { Repository } from './source.ts';
import type { Target } from './target.ts';

export interface RepositoryOptions extends NetworkOptions {
  /** Shared by the repositories of one process; then the other options have no effect. Without it, one of its own is made. */
  network?: RegistryNetwork;
}

/**
 * Opens what a reference names. No request is made and no file is read yet.
 * @param reference text as people write it, or parsed
 * @throws NymphError `usage` for a wrong reference
 */
export function openRepository(reference: string | Reference, options: RepositoryOptions = {}): Repository {
  const parsed = typeof reference === 'string' ? parseReference(reference) : reference;
  if (parsed.kind === 'layout') return openLayoutRepository(parsed);
  if (parsed.kind === 'folder') return openFolderRepository(parsed);
  if (options.network) return openRemote(parsed, options.network);
  const network = createRegistryNetwork(options);
  return { ...openRemote(parsed, network), close: () => network.close() };
}

/**
 * Opens a place to put images. No request is made yet.
 * @throws NymphError `usage` for a reference that nothing can be put to
 */
export function openTarget(reference: Reference, network: RegistryNetwork): Target {
  if (reference.kind === 'layout') return openLayoutTarget(reference);
  if (reference.kind === 'registry') return openRegistryTarget(reference, network);
  throw new NymphError('usage', `images cannot be put to ${formatReference(reference)}`, {
    hint: 'Name a registry (`host/name:tag`) or an OCI layout (`oci:PATH:TAG`).',
  });
}

function openRemote(
  reference: RegistryReference | NydusdReference | HubReference,
  network: RegistryNetwork,
): Repository {
  if (reference.kind === 'registry') return openRegistryRepository(reference, network);
  if (reference.kind === 'hub') return openHubRepository(reference, network, network.hubs);
  return openNydusdRepository(reference, network, (image) => openRepository(image, { network }));
}
