import type { NetworkOptions } from '../sources/registry/network.ts';
import { VERSION } from '../version.ts';
import type { Config } from './config.ts';

/** `[registry]` of the configuration as the sources take it. */
export function registryOptions({ registry }: Pick<Config, 'registry'>): Omit<NetworkOptions, 'log'> {
  return {
    configDirs: registry.configDirs,
    credentials: registry.credentials,
    secretsDirs: registry.secretsDirs,
    plainHttp: registry.plainHttp,
    timeouts: { connect: registry.connectTimeout, header: registry.headerTimeout, body: registry.bodyTimeout },
    userAgent: `nymph/${VERSION}`,
  };
}
