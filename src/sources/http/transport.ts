import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import type { Dispatcher } from 'undici';
import Agent from 'undici/lib/dispatcher/agent.js';
import { NymphError } from '../../errors.ts';
import type { ConnectionSettings, TlsSettings } from './endpoint.ts';
import { foreignLookup, refuseOwnAddress } from './own-address.ts';
import type { ProxyFor } from './proxy.ts';
import { type HttpRequest, type HttpResponse, sendRequest, type Timeouts } from './request.ts';

/** Connections to everybody, kept and shared. */
export interface Transport {
  /** @throws what the socket throws: see `transportError` */
  send(request: HttpRequest, settings: ConnectionSettings, signal: AbortSignal): Promise<HttpResponse>;
  /** Ends all connections, at once. */
  close(): Promise<void>;
}

const CONNECTIONS_PER_HOST = 16;
/** How long an idle connection is kept, ms, unless the server says (`Keep-Alive`): servers often end them after 20 s. */
const KEEP_ALIVE = 15_000;
const LONGEST_KEEP_ALIVE = 60_000;

/** Where systems keep the certificates that they trust, in the order in which Go looks for them. */
const SYSTEM_CERTIFICATES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

export function createTransport(timeouts: Timeouts, userAgent: string, proxyFor: ProxyFor): Transport {
  const dispatchers = new Map<string, Promise<Dispatcher>>();
  const contexts = new Map<string, Promise<SecureContext>>();

  const contextFor = (tls: TlsSettings | undefined) => {
    const id = tls?.id ?? '';
    let context = contexts.get(id);
    if (!context) {
      context = createContext(tls);
      contexts.set(id, context);
      context.catch(() => contexts.delete(id));
    }
    return context;
  };

  const create = async (
    secure: boolean,
    proxy: string | undefined,
    settings: ConnectionSettings,
  ): Promise<Dispatcher> => {
    const timeout = settings.connectTimeout ?? timeouts.connect;
    // One context for all connections: made anew for each, reading the trusted certificates takes 10 ms of CPU.
    const secureContext = secure || proxy?.startsWith('https:') ? await contextFor(settings.tls) : undefined;
    const { socketPath } = settings;
    const lookup = settings.foreign ? foreignLookup : undefined;
    const connect = { timeout, secureContext, rejectUnauthorized: !settings.tls?.skipVerify, socketPath, lookup };
    const common = {
      connections: CONNECTIONS_PER_HOST,
      keepAliveTimeout: KEEP_ALIVE,
      keepAliveMaxTimeout: LONGEST_KEEP_ALIVE,
    };
    if (proxy === undefined) return new Agent({ ...common, connect });
    // Tunnels need more of undici than its agent: the whole of it is loaded where there is a proxy, and only there.
    const { ProxyAgent } = await import('undici');
    const proxyTls = { timeout, ...(proxy.startsWith('https:') ? { secureContext: await contextFor(undefined) } : {}) };
    return new ProxyAgent({ ...common, uri: proxy, requestTls: connect, proxyTls, proxyTunnel: false });
  };

  const proxyOf = (url: URL, settings: ConnectionSettings) =>
    settings.socketPath === undefined ? (settings.proxy ?? proxyFor(url)) : undefined;

  const dispatcherFor = (url: URL, proxy: string | undefined, settings: ConnectionSettings) => {
    const secure = url.protocol === 'https:';
    const { tls, connectTimeout, socketPath, foreign } = settings;
    const key = [secure, proxy, tls?.id, connectTimeout, socketPath, foreign].join(' ');
    let dispatcher = dispatchers.get(key);
    if (!dispatcher) {
      dispatcher = create(secure, proxy, settings);
      dispatchers.set(key, dispatcher);
      dispatcher.catch(() => dispatchers.delete(key));
    }
    return dispatcher;
  };

  return {
    async send(request, settings, signal) {
      const proxy = proxyOf(request.url, settings);
      if (proxy !== undefined && settings.foreign) await refuseOwnAddress(request.url.hostname);
      const dispatcher = await dispatcherFor(request.url, proxy, settings);
      const headers = { 'user-agent': userAgent, ...request.headers };
      const { answerTimeout } = settings;
      const limits =
        answerTimeout === undefined ? timeouts : { ...timeouts, header: answerTimeout, body: answerTimeout };
      return sendRequest(dispatcher, { ...request, headers }, limits, signal);
    },
    async close() {
      const open = [...dispatchers.values()];
      dispatchers.clear();
      // One that could not be made has nothing to end.
      await Promise.allSettled(open.map(async (dispatcher) => (await dispatcher).destroy()));
    },
  };
}

/** Trusts what this machine trusts, as containerd does, and the CAs of the settings. */
async function createContext(tls: TlsSettings | undefined): Promise<SecureContext> {
  const system = (await systemCertificates()) ?? [...rootCertificates];
  try {
    // OpenSSL passes over a CA that it cannot read, and the registry would then look untrusted.
    for (const ca of tls?.ca ?? []) new X509Certificate(ca);
    return createSecureContext({
      ca: [...system, ...(tls?.ca ?? [])],
      ...(tls?.client ? { cert: tls.client.map((pair) => pair.cert), key: tls.client.map((pair) => pair.key) } : {}),
    });
  } catch (cause) {
    throw new NymphError('config', `the certificates for a registry cannot be used: ${(cause as Error).message}`, {
      hint: 'Look at `ca` and `client` in hosts.toml (`ca_cert_files` in a nydusd configuration).',
      cause,
    });
  }
}

async function systemCertificates(): Promise<string[] | undefined> {
  const files = process.env.SSL_CERT_FILE ? [process.env.SSL_CERT_FILE] : SYSTEM_CERTIFICATES;
  for (const file of files) {
    try {
      return [await readFile(file, 'utf8')];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return undefined;
}
