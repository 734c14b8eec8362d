import { NymphError } from '../../errors.ts';
import { createHealthBook, type HostHealth } from '../http/health.ts';
import type { HttpNetwork } from '../http/network.ts';
import { proxyFromEnvironment } from '../http/proxy.ts';
import { DEFAULT_TIMEOUTS, type Timeouts } from '../http/request.ts';
import { createTransport } from '../http/transport.ts';
import type { HubSettings } from '../hub/settings.ts';
import { type Log, SILENT } from '../log.ts';
import { type Authorizer, createAuthorizer } from './auth.ts';
import type { CapturedCredentials } from './captured.ts';
import { credentialPlaces, findCredentials } from './credentials.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { readEndpoints } from './hosts.ts';

export interface NetworkOptions {
  /** Directories with `<host>/hosts.toml`, the first that knows a host counts. */
  configDirs?: readonly string[];
  /** File in the format of Docker's `config.json`, instead of the usual ones. */
  credentials?: string;
  /** Directories with Kubernetes pull secrets. */
  secretsDirs?: readonly string[];
  /** Credentials that came with pulls. */
  captured?: CapturedCredentials;
  /** Hosts (`host` or `host:port`) that are spoken to without TLS. */
  plainHttp?: readonly string[];
  /** Hubs of models. */
  hubs?: HubSettings;
  timeouts?: Partial<Timeouts>;
  userAgent?: string;
  log?: Log;
}

/** What all repositories share: connections, access tokens, configuration and the health of hosts. */
export interface RegistryNetwork extends HttpNetwork {
  readonly hubs: HubSettings;
  readonly authorizer: Authorizer;
  /** Hosts that answer for a registry, in order, the registry itself last. */
  endpoints(host: string): Promise<readonly RegistryEndpoint[]>;
  /** Health of every host that was spoken to. */
  report(): HostHealth[];
  close(): Promise<void>;
}

/** As containerd has it. */
export const DEFAULT_CONFIG_DIRS = ['/etc/containerd/certs.d', '/etc/docker/certs.d'];
/** Configuration is read again after this many ms: mirrors change while images are mounted. */
const CONFIG_LIFETIME = 30_000;

interface KnownHost {
  endpoints: readonly RegistryEndpoint[];
  readAt: number;
}

/** Makes no request. One for a whole process: its parts pool connections and remember tokens. */
export function createRegistryNetwork(options: NetworkOptions = {}): RegistryNetwork {
  const log = options.log ?? SILENT;
  const configDirs = options.configDirs ?? DEFAULT_CONFIG_DIRS;
  const plainHttp = options.plainHttp ?? [];
  const places = credentialPlaces(options);
  const timeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts };
  const transport = createTransport(timeouts, options.userAgent ?? 'nymph', proxyFromEnvironment());
  const health = createHealthBook();
  const hosts = new Map<string, KnownHost>();
  const authorizer = createAuthorizer({
    send: (endpoint, request, signal) => transport.send(request, endpoint, signal),
    findCredentials: (host, repository, problems) => findCredentials(places, host, repository, problems),
  });

  const read = async (host: string): Promise<readonly RegistryEndpoint[]> => {
    const known = hosts.get(host);
    try {
      const endpoints = await readEndpoints(host, configDirs, plainHttp);
      hosts.set(host, { endpoints, readAt: performance.now() });
      return endpoints;
    } catch (error) {
      if (!known || !(error instanceof NymphError)) throw error;
      // Mounted images must not fail because somebody is editing a file.
      log.warn({ host, error: error.message }, 'the registry configuration is wrong: going on with the former one');
      hosts.set(host, { endpoints: known.endpoints, readAt: performance.now() });
      return known.endpoints;
    }
  };

  return {
    transport,
    hubs: options.hubs ?? {},
    authorizer,
    health,
    log,
    async endpoints(host) {
      const known = hosts.get(host);
      if (known && performance.now() - known.readAt < CONFIG_LIFETIME) return known.endpoints;
      return read(host);
    },
    report: () => health.report(),
    close: () => transport.close(),
  };
}
