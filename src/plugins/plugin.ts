/**
 * Drivers for hubs of models, as WebAssembly components of the world `driver` in `plugins/hub.wit`: what they say, once it
 * is checked. Types only.
 */

/** What a driver says of its hub. */
export interface Description {
  /** `[a-z][a-z0-9-]*` */
  readonly scheme: string;
  /** https, no query; without a slash at its end. */
  readonly endpoint: string;
  /** Hosts that answers may redirect to: `host`, `host:port`, `*.host`. */
  readonly redirects: readonly string[];
  /** Names in lower case; values with `{token}`. */
  readonly tokenHeaders: readonly (readonly [name: string, value: string])[];
}

/** A GET request that a driver wants, below its endpoint. */
export interface DriverRequest {
  /** Path and query; begins with one slash and stays below the endpoint. */
  readonly path: string;
  readonly accept?: string;
}

/** An answer of status 200. */
export interface DriverAnswer {
  /** Names in lower case. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array<ArrayBuffer>;
}

/** A driver that is installed: a folder with this as `plugin.json`, and the files that it names. */
export interface Plugin {
  readonly description: Description;
  /** What the component was made into: loads the modules and speaks their calling convention. */
  readonly glue: string;
  /** Its core modules, with the pages of memory (64 KiB) that one instance of each may have. */
  readonly modules: readonly { readonly file: string; readonly pages: number }[];
  /** SHA-256 of the component, hex. */
  readonly sha256: string;
}

/** Where a plugin is. */
export interface InstalledPlugin extends Plugin {
  /** Absolute. */
  readonly directory: string;
  /** It came with nymph. */
  readonly builtIn: boolean;
}

/** The listing of a repository, at one commit. */
export interface Listing {
  /** Canonical JSON: equal for equal files. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** SHA-256 of it, hex. */
  readonly sha256: string;
}

/** Largest answer that a driver is given, bytes. */
export const ANSWER_LIMIT = 16 << 20;
