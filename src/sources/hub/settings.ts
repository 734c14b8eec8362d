/** What whoever runs nymph says of hubs, by scheme: `[hub]` of the configuration. */
export interface HubSettings {
  /** Holds the drivers that were added; without it there are the built-in ones. */
  readonly pluginsDirectory?: string;
  /** A mirror of the hub, or where a private one is: `https://hf-mirror.example`. */
  readonly endpoints?: Readonly<Record<string, string>>;
  /** Files with nothing but a token in them. */
  readonly tokenFiles?: Readonly<Record<string, string>>;
  /** Hosts that the hub may redirect to, besides those that its driver names. */
  readonly redirects?: Readonly<Record<string, readonly string[]>>;
  /** Where the tokens and endpoints are that a hub's own programs use; this process's by default. */
  readonly env?: NodeJS.ProcessEnv;
}
