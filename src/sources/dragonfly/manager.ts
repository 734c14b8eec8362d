import { NymphError } from '../../errors.ts';
import type { Transport } from '../http/transport.ts';
import { pause } from '../retry.ts';
import { ask, objectOf, type RestServer, wrong } from './rest.ts';

/** A Dragonfly manager, and who asks it. */
export interface ManagerSettings {
  /** `http://manager:8080` */
  url: URL;
  /** A personal access token. */
  token: string | undefined;
}

/** Who shall have an image. */
export const PREHEAT_SCOPES = ['single_seed_peer', 'all_seed_peers', 'all_peers'] as const;
export type PreheatScope = (typeof PREHEAT_SCOPES)[number];

/** What is to be preheated, in the manager's words. */
export interface PreheatArguments {
  type: 'image';
  /** Of the manifest: `https://registry.example/v2/app/manifests/sha256:…`. */
  url: string;
  platform: string;
  /** For the registry. */
  headers: Record<string, string>;
  scope: PreheatScope;
  tag?: string;
  application?: string;
  piece_length?: number;
  /** Joined by `&`. */
  filtered_query_params: string;
}

const POLL = 1_000;

/**
 * Has the manager preheat an image (`/oapi/v1/jobs` of Dragonfly 2.1 and later), and waits until that is done.
 * @param progress is told the state of the job
 * @throws NymphError `denied` without a token that it takes, `source` if the job fails
 */
export async function preheatByManager(
  transport: Transport,
  { url, token }: ManagerSettings,
  args: PreheatArguments,
  progress: (state: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const server: RestServer = {
    name: `the Dragonfly manager at ${url.host}`,
    url,
    authorization: token && `Bearer ${token}`,
    hint: 'Put a personal access token with the scope `job` into the file that dragonfly.manager_token names.',
  };
  const job = { type: 'preheat', args };
  const { id } = objectOf(
    server,
    await ask(transport, server, { method: 'POST', path: 'oapi/v1/jobs', body: job }, signal),
  );
  if (!Number.isSafeInteger(id)) throw wrong(server, 'no number of the job');
  for (;;) {
    const answer = await ask(transport, server, { method: 'GET', path: `oapi/v1/jobs/${id}` }, signal);
    const { state, result } = objectOf(server, answer);
    if (typeof state !== 'string') throw wrong(server, 'no state of the job');
    if (state === 'SUCCESS') return;
    if (state === 'FAILURE')
      throw new NymphError(
        'source',
        `Dragonfly did not preheat ${args.url}: ${JSON.stringify(result ?? {}).slice(0, 500)}`,
      );
    progress(state.toLowerCase());
    await pause(POLL, signal);
  }
}
