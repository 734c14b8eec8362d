import { join } from 'node:path';
import { pluginsDirectory } from '../plugins/directory.ts';
import { type CapturedCredentials, createCaptured } from '../sources/registry/captured.ts';
import type { NetworkOptions } from '../sources/registry/network.ts';
import { VERSION } from '../version.ts';
import type { Config } from './config.ts';

/** `[registry]` and `[hub]` of the configuration as the sources take them. */
export function registryOptions({
  registry,
  hub,
  root,
}: Pick<Config, 'registry' | 'hub' | 'root'>): Omit<NetworkOptions, 'log'> {
  return {
    hubs: { ...hub, pluginsDirectory: pluginsDirectory(root) },
    configDirs: registry.configDirs,
    credentials: registry.credentials,
    secretsDirs: registry.secretsDirs,
    plainHttp: registry.plainHttp,
    timeouts: { connect: registry.connectTimeout, header: registry.headerTimeout, body: registry.bodyTimeout },
    userAgent: `nymph/${VERSION}`,
  };
}

/**
 * The logins that came with pulls through `cri.address`; none without it.
 * @param failed is told that they cannot be kept on disk
 */
export function capturedCredentials(
  { root, cri }: Pick<Config, 'root' | 'cri'>,
  failed: (error: Error) => void,
): CapturedCredentials | undefined {
  if (cri.address === undefined) return undefined;
  return createCaptured(cri.remember === 'disk' ? join(root, 'captured.json') : undefined, failed);
}
