import { NymphError } from '../../errors.ts';
import { readUpTo } from '../http/request.ts';
import type { Transport } from '../http/transport.ts';
import { pause } from '../retry.ts';

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
  /** Joined by `&`. */
  filtered_query_params: string;
}

const POLL = 1_000;
const MOST_ANSWER = 4 << 20;

/**
 * Has the manager preheat an image (`/oapi/v1/jobs` of Dragonfly 2.1 and later), and waits until that is done.
 * @param progress is told the state of the job
 * @throws NymphError `denied` without a token that it takes, `source` if the job fails
 */
export async function preheatByManager(
  transport: Transport,
  settings: ManagerSettings,
  args: PreheatArguments,
  progress: (state: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { id } = await ask(transport, settings, 'POST', 'oapi/v1/jobs', { type: 'preheat', args }, signal);
  if (!Number.isSafeInteger(id)) throw wrong(settings, 'no number of the job');
  for (;;) {
    const { state, result } = await ask(transport, settings, 'GET', `oapi/v1/jobs/${id}`, undefined, signal);
    if (typeof state !== 'string') throw wrong(settings, 'no state of the job');
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

async function ask(
  transport: Transport,
  settings: ManagerSettings,
  method: 'GET' | 'POST',
  path: string,
  body: object | undefined,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { url, token } = settings;
  const headers = {
    accept: 'application/json',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  };
  const request = { method, url: new URL(path, url), headers, ...(body && { body: JSON.stringify(body) }) };
  let status: number;
  let text: string;
  try {
    const response = await transport.send(request, {}, signal);
    status = response.status;
    text = (await readUpTo(response, MOST_ANSWER)).toString('utf8');
  } catch (error) {
    if (signal.aborted) throw new NymphError('cancelled', 'interrupted');
    throw new NymphError(
      'source',
      `the Dragonfly manager at ${url.host} does not answer: ${(error as Error).message}`,
      {
        retryable: true,
        cause: error,
      },
    );
  }
  if (status === 401 || status === 403)
    throw new NymphError('denied', `the Dragonfly manager at ${url.host} refuses: status ${status}`, {
      hint: 'Put a personal access token with the scope `job` into the file that dragonfly.manager_token names.',
    });
  if (status !== 200) throw wrong(settings, `status ${status}: ${text.slice(0, 200)}`);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw wrong(settings, 'an answer that is no JSON object');
}

function wrong({ url }: ManagerSettings, what: string): NymphError {
  return new NymphError('source', `the Dragonfly manager at ${url.host} gave ${what}`);
}
