import { NymphError } from '../../errors.ts';
import {
  ANSWER_LIMIT,
  type DriverAnswer,
  type DriverRequest,
  type InstalledPlugin,
  type Listing,
} from '../../plugins/plugin.ts';
import { listRepository } from '../../plugins/run.ts';
import type { HttpNetwork } from '../http/network.ts';
import type { HttpResponse } from '../http/request.ts';
import { cancelled, orCancelled, retry, SMALL_OBJECT_RETRY } from '../retry.ts';
import { askHub } from './exchange.ts';
import type { Hub } from './hub.ts';

/**
 * Lists a repository: its driver says what to ask, and what the answers mean.
 * @param name what stands behind `scheme://`
 * @throws NymphError
 */
export function listHub(
  network: HttpNetwork,
  hub: Hub,
  plugin: InstalledPlugin,
  name: string,
  signal: AbortSignal,
): Promise<Listing> {
  const what = `${hub.scheme}://${name}`;
  hub.requireOnline();
  const ask = ({ path, accept = 'application/json' }: DriverRequest) =>
    retry(SMALL_OBJECT_RETRY, signal, async () => {
      const question = { path, headers: { accept, 'accept-encoding': 'identity' }, what };
      const { response } = await askHub(network, hub, question, signal);
      return readAnswer(response, hub, what, signal);
    });
  return orCancelled(listRepository(plugin, name, ask), signal, what);
}

async function readAnswer(response: HttpResponse, hub: Hub, what: string, signal: AbortSignal): Promise<DriverAnswer> {
  const { host } = hub.endpoint.url;
  if (response.status !== 200) throw await hub.errors.status(response, what, host);
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of response.body) {
      size += chunk.length;
      if (size > ANSWER_LIMIT) throw new NymphError('source', `${host} answers ${what} with more than 16 MiB`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (signal.aborted) throw cancelled(what);
    throw hub.errors.transport(error, what, host);
  }
  const headers = response
    .names()
    .flatMap((name) => response.all(name).map((value): [string, string] => [name, value]));
  return { headers: headers.filter(([name]) => name !== 'set-cookie'), body: Uint8Array.from(Buffer.concat(chunks)) };
}
