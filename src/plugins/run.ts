import { Worker } from 'node:worker_threads';
import { NymphError } from '../errors.ts';
import type { DriverCall, DriverData, DriverReply } from './messages.ts';
import type { Description, DriverAnswer, DriverRequest, InstalledPlugin, Listing, Plugin } from './plugin.ts';

/** What one call of a driver may take, and what all of it may; bytes and ms. */
export interface DriverLimits {
  /** For its thread and the JavaScript around it; the component's own memory is limited in its modules. */
  heap: number;
  call: number;
  requests: number;
  /** For all of a listing, with what its hub takes to answer. */
  listing: number;
}

export const DRIVER_LIMITS: DriverLimits = { heap: 192 << 20, call: 10_000, requests: 2_000, listing: 300_000 };

/** Has a driver say what it is. @throws NymphError */
export async function describePlugin(
  plugin: Omit<Plugin, 'description'>,
  directory: string,
  limits: DriverLimits = DRIVER_LIMITS,
): Promise<Description> {
  const thread = startThread('the plugin', { ...plugin, directory }, limits);
  try {
    const reply = await thread.call({ call: 'describe' });
    if (reply.reply !== 'description') throw unexpected(reply);
    return reply.description;
  } finally {
    thread.end();
  }
}

/**
 * Has a driver list a repository. It runs in a thread of its own, for as long as this takes, and is ended when it hangs:
 * nothing that it does reaches anybody else.
 * @param reference what stands behind `scheme://`
 * @param ask makes a request, and gives the answer if its status is 200
 * @throws NymphError what `ask` throws; what the driver says of the reference; `corrupt` for one that lies or breaks down;
 *   `timeout` for one that hangs
 */
export async function listRepository(
  plugin: InstalledPlugin,
  reference: string,
  ask: (request: DriverRequest) => Promise<DriverAnswer>,
  limits: DriverLimits = DRIVER_LIMITS,
): Promise<Listing> {
  const { scheme } = plugin.description;
  const name = `the driver of ${scheme}://`;
  const thread = startThread(name, plugin, limits);
  const late = Promise.withResolvers<never>();
  late.promise.catch(() => {});
  const timer = setTimeout(
    () => late.reject(new NymphError('timeout', `${name} was not done after ${limits.listing / 1000} s: it was ended`)),
    limits.listing,
  );
  try {
    let reply = await thread.call({ call: 'start', scheme, reference });
    for (let asked = 0; reply.reply === 'ask'; asked++) {
      if (asked === limits.requests)
        throw new NymphError('corrupt', `${name} has asked ${asked} times, and is not done: it was ended`);
      // Each call has its own limit; but a hub may answer slowly, and a driver ask for ever.
      const answer = await Promise.race([ask(reply.request), late.promise]);
      reply = await thread.call({ call: 'next', answer });
    }
    if (reply.reply !== 'listing') throw unexpected(reply);
    return reply.listing;
  } finally {
    clearTimeout(timer);
    thread.end();
  }
}

interface DriverThread {
  /** @throws NymphError what the driver or its thread failed with */
  call(call: DriverCall): Promise<DriverReply>;
  end(): void;
}

interface Waiter {
  resolve(reply: DriverReply): void;
  reject(error: NymphError): void;
}

function startThread(name: string, { directory, glue, modules }: DriverData, limits: DriverLimits): DriverThread {
  const worker = new Worker(new URL(`./thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url), {
    workerData: { directory, glue, modules } satisfies DriverData,
    // Tokens are in the environment.
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: limits.heap >> 20, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 },
    stdin: false,
    stdout: true,
    stderr: true,
  });
  let waiter: Waiter | undefined;
  let failure: NymphError | undefined;

  const fail = (error: NymphError) => {
    failure ??= error;
    waiter?.reject(failure);
    void worker.terminate();
  };
  worker.on('message', (reply: DriverReply) => {
    if (reply.reply === 'failed') fail(new NymphError(reply.code, reply.message, { hint: reply.hint }));
    else waiter?.resolve(reply);
  });
  worker.on('error', (error) => fail(brokenDown(name, error)));
  worker.on('exit', () => fail(new NymphError('corrupt', `${name} broke down: its thread ended`)));
  // What it prints is nobody's business, but a full pipe would stop it.
  worker.stdout.resume();
  worker.stderr.resume();

  const reply = () =>
    new Promise<DriverReply>((resolve, reject) => {
      if (failure) return reject(failure);
      const timer = setTimeout(
        () => fail(new NymphError('timeout', `${name} took more than ${limits.call / 1000} s: it was ended`)),
        limits.call,
      );
      const settle = () => {
        clearTimeout(timer);
        waiter = undefined;
      };
      waiter = {
        resolve: (value) => {
          settle();
          resolve(value);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
    });
  const ready = reply();
  ready.catch(() => {});

  return {
    async call(call) {
      await ready;
      const result = reply();
      worker.postMessage(call, call.call === 'next' ? [call.answer.body.buffer] : []);
      return result;
    },
    end: () => void worker.terminate(),
  };
}

function brokenDown(name: string, error: unknown): NymphError {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ERR_WORKER_OUT_OF_MEMORY')
    return new NymphError('corrupt', `${name} wanted more memory than it may have: it was ended`);
  return new NymphError('corrupt', `${name} broke down: ${String(message).split('\n', 1)[0].slice(0, 200)}`);
}

function unexpected({ reply }: DriverReply): NymphError {
  return new NymphError('internal', `the thread of a driver answered ${reply}`);
}
