import type { Bucket } from '../object-storage/bucket.ts';
import type { Credential } from '../registry/credential.ts';

/** Where blobs are, as a configuration of nydusd says it. Holds secrets. */
export type Backend = RegistryBackend | ObjectBackend | LocalBackend | HttpBackend;

/** How to connect. Times in ms. */
export interface Connection {
  connectTimeout?: number;
  answerTimeout?: number;
  skipVerify: boolean;
  /** PEM files, absolute. */
  caFiles: string[];
  proxy?: ProxySettings;
}

export interface ProxySettings {
  url: string;
  /** Without the proxy where it fails. */
  fallback: boolean;
  /** Ask the proxy for `http` addresses, so that it sees what is asked for. */
  plain: boolean;
}

export interface RegistryBackend {
  kind: 'registry';
  /** `host` or `host:port`. */
  host: string;
  repository: string;
  /** Absent: as for any other registry. */
  scheme?: 'http' | 'https';
  /** Best first. Without any, those of other registries are looked for. */
  credentials: Credential[];
  /** Asked before the registry, in order. */
  mirrors: { url: URL; headers: Record<string, string> }[];
  /** Where redirected requests go instead. */
  redirected: { host?: string; scheme?: 'http' | 'https' };
  connection: Connection;
}

export interface ObjectBackend {
  kind: 'bucket';
  bucket: Bucket;
  connection: Connection;
}

export interface LocalBackend {
  kind: 'localfs';
  /** One file that is the blob, whatever its id. */
  file?: string;
  /** Looked into in order. */
  directories: string[];
}

export interface HttpBackend {
  kind: 'http-proxy';
  /** `http://host:port`, or an absolute path of a unix socket. */
  address: { url: URL } | { socketPath: string };
  /** Of the folder of blobs; the id is added. */
  path: string;
  connection: Connection;
}
