/** TLS towards one host: PEM texts. `id` is equal for equal settings. */
export interface TlsSettings {
  id: string;
  ca?: string[];
  client?: { cert: string; key: string }[];
  skipVerify?: boolean;
}

/** A host that answers for a registry: a mirror or the registry itself. */
export interface Endpoint {
  /** Scheme, host and path of the API's root, without a slash at its end: `https://mirror.example/v2`. */
  readonly url: URL;
  /** May be asked which digest a tag has. */
  readonly resolve: boolean;
  /** May be asked for manifests and blobs by digest. */
  readonly pull: boolean;
  /** The host that the reference names, if this is a mirror of it: the `ns` query. */
  readonly ns?: string;
  /** The registry itself: it is asked even while it rests. */
  readonly upstream: boolean;
  readonly headers: Record<string, string | string[]>;
  readonly tls?: TlsSettings;
  /** Milliseconds for a connection to be made (`dial_timeout`). */
  readonly connectTimeout?: number;
}
