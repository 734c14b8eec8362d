import { readFile } from 'node:fs/promises';
import { NymphError } from '../errors.ts';
import type { FoundImage, ImageOpener } from '../mount/open.ts';
import { preheatByHarbor } from '../sources/dragonfly/harbor.ts';
import { preheatByManager } from '../sources/dragonfly/manager.ts';
import { FILTERED_QUERY_PARAMS } from '../sources/dragonfly/task.ts';
import { proxyFromEnvironment } from '../sources/http/proxy.ts';
import { DEFAULT_TIMEOUTS } from '../sources/http/request.ts';
import { createTransport } from '../sources/http/transport.ts';
import { machinePlatform, parsePlatform } from '../sources/platform.ts';
import { pause } from '../sources/retry.ts';
import type { Descriptor } from '../sources/source.ts';
import type { ObjectLocation, Swarm, SwarmObject } from '../sources/swarm.ts';
import { VERSION } from '../version.ts';
import type { PreheatRequest, PreheatResult, PreheatWay, Progress } from './api.ts';
import type { Config } from './config.ts';

export interface PreheatParts {
  config: Config['dragonfly'];
  swarm: Swarm | undefined;
  opener: ImageOpener;
}

/** Streams that are tried again, and the pause before that, ms: a seed may have begun meanwhile. */
const ATTEMPTS = 5;
const PAUSE = 500;

/**
 * Has the blobs of an image in Dragonfly before anybody reads them: by a job of the manager, on seeds or on every peer; by a
 * policy of Harbor; or each blob is streamed through this node's dfdaemon, which has a seed get it; the bytes are dropped.
 */
export async function preheat(
  { config, swarm, opener }: PreheatParts,
  request: PreheatRequest,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<PreheatResult> {
  const begun = performance.now();
  const found = await opener.resolve(request.reference, request.platform, progress, signal);
  const by = request.via ?? configuredWay(config);
  if (by === 'manager') await byManager(found, config, request, progress, signal);
  else if (by === 'harbor') await byHarbor(found, config, progress, signal);
  else await byStream(found, swarm, progress, signal);
  const { reference, digest, layers } = found;
  const bytes = layers.reduce((sum, { size }) => sum + size, 0);
  return { reference, digest, by, blobs: layers.length, bytes, milliseconds: Math.round(performance.now() - begun) };
}

function configuredWay({ manager, harbor }: Config['dragonfly']): PreheatWay {
  if (manager !== undefined) return 'manager';
  return harbor === undefined ? 'dfdaemon' : 'harbor';
}

async function byHarbor(
  found: FoundImage,
  { harbor, harborPolicy, harborLogin }: Config['dragonfly'],
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  if (harbor === undefined || harborPolicy === undefined)
    throw notConfigured('Harbor', 'dragonfly.harbor and dragonfly.harbor_policy');
  const repository = /^\/v2\/(.+)\/blobs\//.exec((await locate(found, found.layers[0], signal)).url.pathname)?.[1];
  if (repository === undefined) throw new NymphError('unsupported', `${found.reference} is in no registry`);
  const tag = /:([\w][\w.-]*)$/.exec(found.reference.replace(/@.*$/, ''))?.[1];
  const transport = createTransport(DEFAULT_TIMEOUTS, `nymph/${VERSION}`, proxyFromEnvironment());
  const login = harborLogin === undefined ? undefined : await readSecret(harborLogin, 'login for Harbor');
  const artifact = {
    project: repository.split('/')[0],
    name: tag && `${repository}:${tag}`,
    digest: found.digest,
  };
  try {
    await preheatByHarbor(
      transport,
      { url: new URL(harbor), policy: harborPolicy, login },
      artifact,
      (state) => progress({ stage: `preheating: ${state}` }),
      signal,
    );
  } finally {
    await transport.close();
  }
}

function notConfigured(who: string, keys: string): NymphError {
  return new NymphError('precondition', `${who} is not configured`, { hint: `Set ${keys}.` });
}

async function byManager(
  found: FoundImage,
  { manager, managerToken, tag, application, pieceLength }: Config['dragonfly'],
  { platform, scope = 'single_seed_peer' }: PreheatRequest,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  if (manager === undefined) throw notConfigured("Dragonfly's manager", 'dragonfly.manager');
  const { url, headers } = await locate(found, found.layers[0], signal);
  const transport = createTransport(DEFAULT_TIMEOUTS, `nymph/${VERSION}`, proxyFromEnvironment());
  const token =
    managerToken === undefined ? undefined : await readSecret(managerToken, 'token for the Dragonfly manager');
  const { os, architecture } = platform === undefined ? machinePlatform() : parsePlatform(platform);
  const manifest = new URL(url.href.replace(/\/blobs\/[^/]*$/, `/manifests/${found.digest}`));
  try {
    await preheatByManager(
      transport,
      { url: new URL(manager), token },
      {
        ...{ type: 'image', url: manifest.href, platform: `${os}/${architecture}`, headers, scope },
        ...(tag === undefined ? {} : { tag }),
        ...(application === undefined ? {} : { application }),
        ...(pieceLength === undefined ? {} : { piece_length: pieceLength }),
        filtered_query_params: FILTERED_QUERY_PARAMS.join('&'),
      },
      (state) => progress({ stage: `preheating: ${state}` }),
      signal,
    );
  } finally {
    await transport.close();
  }
}

async function readSecret(file: string, what: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new NymphError('config', `the ${what} cannot be read: ${(error as Error).message}`);
  }
}

async function byStream(
  found: FoundImage,
  swarm: Swarm | undefined,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  if (swarm?.available() !== true)
    throw new NymphError('precondition', 'there is no Dragonfly here to preheat', {
      hint: 'Start dfdaemon, or name its socket as dragonfly.endpoint, or a manager as dragonfly.manager.',
    });
  const total = found.layers.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const layer of found.layers) {
    const object: SwarmObject = {
      digest: layer.digest,
      location: async (_, refusals) => (refusals > 0 ? undefined : locate(found, layer, signal)),
    };
    for (let attempt = 1; ; attempt++) {
      let here = 0;
      try {
        const { pieces } = await swarm.open(object, signal, 'drop');
        for await (const { length } of pieces) {
          here += length;
          progress({ stage: 'preheating', done: done + here, total });
        }
        break;
      } catch (error) {
        if (!(error instanceof NymphError) || !error.retryable || attempt === ATTEMPTS) throw error;
        await pause(PAUSE * attempt, signal);
      }
    }
    done += layer.size;
  }
}

async function locate(found: FoundImage, layer: Descriptor, signal: AbortSignal): Promise<ObjectLocation> {
  const source = found.source(layer);
  // Its login may be an old one, and nothing was asked of it yet in this process.
  const location = await source.location?.(signal, 1);
  if (location !== undefined) return location;
  throw new NymphError('unsupported', `${found.reference} is in no place that Dragonfly could get it from`);
}
