import { openFolderRepository } from './folder.ts';
import { openLayoutRepository } from './layout.ts';
import { parseReference, type Reference } from './reference.ts';
import { createRegistryNetwork, type NetworkOptions, type RegistryNetwork } from './registry/network.ts';
import { openRegistryRepository } from './registry/repository.ts';
import type { Repository } from './source.ts';

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
  if (options.network) return openRegistryRepository(parsed, options.network);
  const network = createRegistryNetwork(options);
  return { ...openRegistryRepository(parsed, network), close: () => network.close() };
}
