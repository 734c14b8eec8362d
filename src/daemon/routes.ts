import type { Reading } from '../telemetry/metrics.ts';
import type { Health, Ready } from './api.ts';
import type { PageAnswer, Routes } from './control-server.ts';
import type { PreheatParts } from './preheat.ts';
import {
  cellsOf,
  mountRequest,
  prefetchRequest,
  preheatRequest,
  pruneRequest,
  pullRequest,
  verifyRequest,
} from './requests.ts';
import type { Service } from './service.ts';

export interface RouteParts {
  service: Service;
  preheat: PreheatParts;
  health: () => Health;
  ready: () => Ready;
  /** What metrics are made of. */
  reading: () => Promise<Reading>;
  onUpgrade: (body: unknown) => Promise<void>;
  onStop: () => void;
}

/** Which call of the control API is answered by whom (`api.ts`). What few daemons are asked for is loaded then. */
export function createRoutes({ service, preheat, health, ready, reading, onUpgrade, onStop }: RouteParts): Routes {
  return {
    calls: {
      'GET /v1/health': health,
      'GET /v1/status': () => service.status(),
      'GET /v1/live': ({ query }) => service.live(cellsOf(query)),
      'GET /v1/activity/': ({ rest }) => service.activity(rest),
      'GET /v1/mounts': () => service.mounts(),
      'GET /v1/images': () => service.images(),
      'GET /v1/images/': ({ rest }) => service.image(rest),
      'GET /v1/traces/': ({ rest }) => service.trace(rest),
      'PUT /v1/pins/': ({ rest }) => service.pin(rest, true),
      'DELETE /v1/pins/': ({ rest }) => service.pin(rest, false),
      'DELETE /v1/mounts': ({ query }) => service.umount(query.get('directory') ?? '', query.get('force') === 'true'),
      'POST /v1/stop': () => onStop(),
    },
    works: {
      'POST /v1/mounts': (body, progress, signal) => service.mount(mountRequest(body), progress, signal),
      'POST /v1/pull': (body, progress, signal) => service.pull(pullRequest(body), progress, signal),
      'POST /v1/preheat': async (body, progress, signal) => {
        const preheating = await import('./preheat.ts');
        return preheating.preheat(preheat, preheatRequest(body), progress, signal);
      },
      'POST /v1/prefetch': (body, progress, signal) => service.prefetch(prefetchRequest(body), progress, signal),
      'POST /v1/verify': (body, progress, signal) => service.verify(verifyRequest(body), progress, signal),
      'POST /v1/upgrade': async (body) => {
        await onUpgrade(body);
        return {};
      },
      'POST /v1/prune': (body) => service.prune(pruneRequest(body)),
    },
    pages: {
      'GET /': async () => (await import('./page.ts')).webPage(),
      'GET /v1/ready': async () => readyAnswer(ready()),
      'GET /metrics': async () => {
        const [{ metricsOf }, { EXPOSITION_TYPE, formatMetrics }] = await Promise.all([
          import('../telemetry/metrics.ts'),
          import('../telemetry/exposition.ts'),
        ]);
        return { headers: { 'content-type': EXPOSITION_TYPE }, body: formatMetrics(metricsOf(await reading())) };
      },
    },
  };
}

function readyAnswer(ready: Ready): PageAnswer {
  const headers = { 'content-type': 'application/json' };
  return { status: ready.ready ? 200 : 503, headers, body: JSON.stringify(ready) };
}
