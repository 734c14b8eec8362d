/** A work thread: runs one job after another. Synchronous calls are right here: no reader waits for this thread itself. */
import { parentPort } from 'node:worker_threads';
import { NymphError } from '../errors.ts';
import type { JobAnswer, JobFunction, JobRequest, WarmRequest } from './job.ts';

const port = parentPort!;

port.on('message', async (request: JobRequest | WarmRequest) => {
  if ('modules' in request) {
    // A module that does not load says so when its job comes.
    await Promise.allSettled(request.modules.map((module) => import(module)));
    port.postMessage({ type: 'up' } satisfies JobAnswer);
  } else await answer(request);
});

async function answer({ module, input }: JobRequest): Promise<void> {
  try {
    const { run } = (await import(module)) as { run: JobFunction<unknown, unknown> };
    const { output, transfer = [] } = run(input);
    port.postMessage({ type: 'done', output } satisfies JobAnswer, transfer);
  } catch (error) {
    const known =
      error instanceof NymphError ? error : new NymphError('internal', String((error as Error).stack ?? error));
    const { code, message, hint, retryable } = known;
    port.postMessage({ type: 'failed', code, message, hint, retryable } satisfies JobAnswer);
  }
}
