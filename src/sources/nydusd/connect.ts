import type { Endpoint, TlsSettings } from '../http/endpoint.ts';
import { loadTls } from '../http/tls.ts';
import type { Connection } from './backend.ts';

/** How a configuration connects to one place. */
export interface Connector {
  /** The certificates of the configuration, read once. */
  tls(): Promise<TlsSettings | undefined>;
  /** The endpoint through the proxy first, then without it, as far as the configuration has and wants them. */
  ways<E extends Endpoint>(endpoint: E): E[];
}

export function createConnector({ proxy, caFiles, skipVerify, connectTimeout, answerTimeout }: Connection): Connector {
  let tls: Promise<TlsSettings | undefined> | undefined;
  return {
    tls() {
      tls ??= loadTls({ ca: caFiles, client: [] }, '/', skipVerify).catch((error) => {
        tls = undefined;
        throw error;
      });
      return tls;
    },
    ways(endpoint) {
      const direct = {
        ...endpoint,
        ...(connectTimeout === undefined ? {} : { connectTimeout }),
        ...(answerTimeout === undefined ? {} : { answerTimeout }),
      };
      if (proxy === undefined) return [direct];
      const url = new URL(endpoint.url);
      if (proxy.plain) url.protocol = 'http:';
      const proxied = { ...direct, url, proxy: proxy.url, upstream: !proxy.fallback };
      return proxy.fallback ? [proxied, direct] : [proxied];
    },
  };
}
