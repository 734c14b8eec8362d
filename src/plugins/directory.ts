import { join } from 'node:path';

/** Where `nymph plugin add` puts drivers. */
export function pluginsDirectory(root: string): string {
  return join(root, 'plugins');
}
