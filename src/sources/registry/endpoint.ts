import type { Endpoint } from '../http/endpoint.ts';

/** A host that answers for a registry: a mirror or the registry itself. */
export interface RegistryEndpoint extends Endpoint {
  /** Scheme, host and path of the API's root, without a slash at its end: `https://mirror.example/v2`. */
  readonly url: URL;
  /** May be asked which digest a tag has. */
  readonly resolve: boolean;
  /** May be asked for manifests and blobs by digest. */
  readonly pull: boolean;
  /** The host that the reference names, if this is a mirror of it: the `ns` query. */
  readonly ns?: string;
  readonly headers: Record<string, string | string[]>;
  /** What replaces host and scheme of the addresses elsewhere that it redirects to. */
  readonly redirected?: { host?: string; scheme?: 'http' | 'https' };
}
