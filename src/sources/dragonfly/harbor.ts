import { NymphError } from '../../errors.ts';
import type { Transport } from '../http/transport.ts';
import { pause } from '../retry.ts';
import { ask, objectOf, type RestServer, wrong } from './rest.ts';

/** A policy of Harbor (2.x) that preheats what it is about, and who runs it. */
export interface HarborSettings {
  /** `https://harbor.example` */
  url: URL;
  policy: string;
  /** `user:password`, of a robot account mostly. */
  login: string | undefined;
}

/** What must be among what the policy has preheated: one of these is enough, for of an index Harbor knows only the index. */
export interface HarborArtifact {
  /** `library` */
  project: string;
  /** `library/app:nydus` */
  name: string | undefined;
  digest: string;
}

const POLL = 1_000;
const PAGE = 100;
/** A policy that preheats more has not been looked through. */
const MOST_PAGES = 100;

/**
 * Runs a P2P preheat policy of Harbor now, and waits until that is done.
 * Source: Harbor's API 2.0, `/projects/{project}/preheat/policies/{policy}` and its `executions` and `tasks`.
 * @param progress is told the state, and how many of its artifacts are done
 * @throws NymphError `denied` without a login that may run it, `not-found` where there is no such policy, `precondition`
 *   if it does not preheat the artifact, `source` if that fails
 */
export async function preheatByHarbor(
  transport: Transport,
  { url, policy, login }: HarborSettings,
  artifact: HarborArtifact,
  progress: (state: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const server: RestServer = {
    name: `Harbor at ${url.host}`,
    url,
    authorization: login && `Basic ${Buffer.from(login).toString('base64')}`,
    hint: 'Put `name:secret` of a robot account that may read and update preheat policies of the project into the file that dragonfly.harbor_login names.',
  };
  const { project } = artifact;
  const place = `api/v2.0/projects/${encodeURIComponent(project)}/preheat/policies/${encodeURIComponent(policy)}`;
  // It wants the policy back; what it runs is the one that it has.
  const found = objectOf(server, await ask(transport, server, { method: 'GET', path: place }, signal).catch(absent));
  if (found.enabled === false)
    throw new NymphError('precondition', `the preheat policy ${policy} of ${project} is disabled`);
  const { location } = await ask(transport, server, { method: 'POST', path: place, body: found }, signal);
  const id = /\/executions\/(\d+)$/.exec(location ?? '')?.[1];
  if (id === undefined) throw wrong(server, 'no number of the execution');
  const execution = `${place}/executions/${id}`;
  for (;;) {
    const state = objectOf(server, await ask(transport, server, { method: 'GET', path: execution }, signal));
    const { status, status_message: message, metrics } = state;
    if (typeof status !== 'string') throw wrong(server, 'no status of the execution');
    if (status === 'Success') break;
    if (status === 'Error' || status === 'Stopped')
      throw new NymphError('source', `Harbor's policy ${policy} of ${project} did not preheat: ${message || status}`);
    progress(`${status.toLowerCase()}${countsOf(metrics)}`);
    await pause(POLL, signal);
  }
  if (!(await isAmong(transport, server, execution, artifact, signal)))
    throw new NymphError('precondition', `the preheat policy ${policy} of ${project} does not preheat this image`, {
      hint: 'Look at its filters of repositories, tags and labels: they must match the image.',
    });

  function absent(error: unknown): never {
    if (error instanceof NymphError && /status 404/.test(error.message))
      throw new NymphError('not-found', `${project} has no preheat policy ${policy}: ${error.message}`);
    throw error;
  }
}

function countsOf(metrics: unknown): string {
  const { task_count: all, success_task_count: done } = (metrics ?? {}) as Record<string, unknown>;
  return typeof all === 'number' && all > 0 ? `, ${typeof done === 'number' ? done : 0} of ${all} images` : '';
}

async function isAmong(
  transport: Transport,
  server: RestServer,
  execution: string,
  { name, digest }: HarborArtifact,
  signal: AbortSignal,
): Promise<boolean> {
  for (let page = 1; page <= MOST_PAGES; page++) {
    const path = `${execution}/tasks?page=${page}&page_size=${PAGE}`;
    const { value } = await ask(transport, server, { method: 'GET', path }, signal);
    if (!Array.isArray(value)) throw wrong(server, 'no list of tasks');
    for (const task of value) {
      const about = task?.extra_attrs;
      if (about?.digest === digest || (name !== undefined && about?.artifact === name)) return true;
    }
    if (value.length < PAGE) return false;
  }
  return false;
}
