/** TLS towards one host: PEM texts. `id` is equal for equal settings. */
export interface TlsSettings {
  id: string;
  ca?: string[];
  client?: { cert: string; key: string }[];
  skipVerify?: boolean;
}

/** How a host is reached. */
export interface ConnectionSettings {
  readonly tls?: TlsSettings;
  /** Milliseconds for a connection to be made; then for the first byte of an answer and for the longest pause in it. */
  readonly connectTimeout?: number;
  readonly answerTimeout?: number;
  /** Address of the HTTP proxy to go through, instead of that of the environment. May hold a password. */
  readonly proxy?: string;
  /** Its name comes from outside: it may not lead to this machine or its link, nor by a proxy, as far as names are known here. */
  readonly foreign?: boolean;
  /** Unix socket that answers for the host. */
  readonly socketPath?: string;
}

/** A host that may be asked for an object. */
export interface Endpoint extends ConnectionSettings {
  readonly url: URL;
  /** The place itself and no mirror of it or proxy before it: it is asked even while it rests. */
  readonly upstream: boolean;
}

/** Tells the endpoints of one source apart, in books of health and of objects. */
export function endpointKey({ url, proxy }: Endpoint): string {
  return proxy === undefined ? url.href : `${url.href} by proxy`;
}
