import type { ClientRequest, IncomingMessage } from 'node:http';
import type { PruneResult } from '../cache/cache.ts';
import { type ErrorCode, NymphError } from '../errors.ts';
import type {
  ApiError,
  Health,
  ImageActivity,
  ImageInfo,
  Live,
  MountInfo,
  MountRequest,
  PrefetchRequest,
  PrefetchResult,
  PreheatRequest,
  PreheatResult,
  Progress,
  PruneRequest,
  PullRequest,
  PullResult,
  Status,
  StreamLine,
  TraceInfo,
  UpgradeRequest,
  VerifyRequest,
  VerifyResult,
} from './api.ts';

// An `import` of node:http asks for all that it exports, and with it loads undici: 17 of the 70 ms that a command takes.
const { request: httpRequest } = process.getBuiltinModule('node:http');
const { connect } = process.getBuiltinModule('node:net');

/**
 * The other end of the control API (`api.ts`). `node:http` and not undici: a command lives for milliseconds, and undici
 * costs more of them to load than the answer takes.
 *
 * Every call rejects with a NymphError: what the daemon said, `daemon` if it cannot be reached or went away, `timeout`
 * if it does not answer, `cancelled` if the client's signal was aborted (the daemon sees the hang-up and cancels).
 */
export interface ControlClient {
  health(): Promise<Health>;
  status(): Promise<Status>;
  mounts(): Promise<MountInfo[]>;
  images(): Promise<ImageInfo[]>;
  /** @param name reference or digest */
  image(name: string): Promise<ImageInfo>;
  /** @param name reference or digest */
  trace(name: string): Promise<TraceInfo>;
  /** @param name reference or digest */
  activity(name: string): Promise<ImageActivity>;
  live(): Promise<Live>;
  mount(request: MountRequest, onProgress?: OnProgress): Promise<MountInfo>;
  unmount(directory: string, force: boolean): Promise<void>;
  pull(request: PullRequest, onProgress?: OnProgress): Promise<PullResult>;
  preheat(request: PreheatRequest, onProgress?: OnProgress): Promise<PreheatResult>;
  prefetch(request: PrefetchRequest, onProgress?: OnProgress): Promise<PrefetchResult>;
  verify(request: VerifyRequest, onProgress?: OnProgress): Promise<VerifyResult>;
  /** @param name reference or digest */
  pin(name: string, pinned: boolean): Promise<ImageInfo>;
  prune(request: PruneRequest, onProgress?: OnProgress): Promise<PruneResult>;
  /** Resolves when the other program has got ready, and this daemon ends. */
  upgrade(request: UpgradeRequest): Promise<void>;
  stop(): Promise<void>;
}

export type OnProgress = (progress: Progress) => void;

/** Time for an answer that needs no long work, ms. An unmount flushes, so it is not short. */
const ANSWER_TIMEOUT = 30_000;
/** Longest answer or line that is taken: an image list with every blob stays far below. */
const MAX_ANSWER = 64 * 1024 * 1024;

/** A client for the daemon whose control socket is `address`. Connects for each call; holds nothing open between them. */
export function controlClient(address: string, signal?: AbortSignal): ControlClient {
  const call = <T>(method: string, path: string) => answer<T>({ address, method, path, signal });
  const work = <T>(path: string, body: object, onProgress?: OnProgress) =>
    stream<T>({ address, method: 'POST', path, body, signal }, onProgress);
  return {
    health: () => call('GET', '/v1/health'),
    status: () => call('GET', '/v1/status'),
    mounts: () => call('GET', '/v1/mounts'),
    images: () => call('GET', '/v1/images'),
    image: (name) => call('GET', `/v1/images/${encodeURIComponent(name)}`),
    trace: (name) => call('GET', `/v1/traces/${encodeURIComponent(name)}`),
    activity: (name) => call('GET', `/v1/activity/${encodeURIComponent(name)}`),
    live: () => call('GET', '/v1/live'),
    mount: (body, onProgress) => work('/v1/mounts', body, onProgress),
    unmount: async (directory, force) => {
      const query = new URLSearchParams(force ? { directory, force: 'true' } : { directory });
      await call('DELETE', `/v1/mounts?${query}`);
    },
    pull: (body, onProgress) => work('/v1/pull', body, onProgress),
    preheat: (body, onProgress) => work('/v1/preheat', body, onProgress),
    prefetch: (body, onProgress) => work('/v1/prefetch', body, onProgress),
    verify: (body, onProgress) => work('/v1/verify', body, onProgress),
    pin: (name, pinned) => call(pinned ? 'PUT' : 'DELETE', `/v1/pins/${encodeURIComponent(name)}`),
    prune: (body, onProgress) => work('/v1/prune', body, onProgress),
    upgrade: async (body) => {
      await work('/v1/upgrade', body);
    },
    stop: async () => {
      await call('POST', '/v1/stop');
    },
  };
}

/** True if the error says that nobody listens on the socket, so that a daemon may be started there. */
export function isDaemonAbsent(error: unknown): boolean {
  if (!(error instanceof NymphError) || error.code !== 'daemon') return false;
  const code = (error.cause as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}

interface Call {
  address: string;
  method: string;
  path: string;
  body?: object;
  signal?: AbortSignal;
}

async function answer<T>(call: Call): Promise<T> {
  const response = await open(call, ANSWER_TIMEOUT);
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const part of response as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > MAX_ANSWER) throw badAnswer(call, `more than ${MAX_ANSWER} bytes`);
      parts.push(part);
    }
  } catch (error) {
    throw connectionError(call, error);
  } finally {
    response.destroy();
  }
  const value = parseJson(call, Buffer.concat(parts).toString());
  if (isFailure(response)) throw fromApi(call, value, response.statusCode);
  return value as T;
}

async function stream<T>(call: Call, onProgress: OnProgress = () => {}): Promise<T> {
  const response = await open(call, 0);
  try {
    for await (const text of lines(call, response)) {
      const value = parseJson(call, text);
      if (isFailure(response)) throw fromApi(call, value, response.statusCode);
      const line = value as StreamLine<T>;
      if (line?.type === 'progress') onProgress(line.progress);
      else if (line?.type === 'done') return line.result;
      else throw fromApi(call, value, response.statusCode);
    }
  } catch (error) {
    throw connectionError(call, error);
  } finally {
    response.destroy();
  }
  throw wentAway(call, undefined);
}

/** Lines of an answer, without empty ones. */
async function* lines(call: Call, response: IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  response.setEncoding('utf8');
  for await (const part of response as AsyncIterable<string>) {
    const pieces = (rest + part).split('\n');
    rest = pieces.pop() as string;
    if (rest.length > MAX_ANSWER) throw badAnswer(call, `a line of more than ${MAX_ANSWER} characters`);
    for (const piece of pieces) if (piece !== '') yield piece;
  }
  if (rest !== '') yield rest;
}

/** Sends the request; resolves with the answer's head. `timeout` in ms of silence, 0 for none. */
function open(call: Call, timeout: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const body = call.body === undefined ? undefined : JSON.stringify(call.body);
    const request: ClientRequest = httpRequest({
      method: call.method,
      path: call.path,
      // One connection for one call: an agent would first find out (3 ms) that the host is no IP address.
      createConnection: () => connect(call.address),
      timeout,
      signal: call.signal,
      headers:
        body === undefined
          ? { host: 'nymph' }
          : { host: 'nymph', 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    });
    request.on('timeout', () =>
      request.destroy(
        new NymphError('timeout', `the daemon at ${call.address} did not answer within ${timeout / 1000} s`, {
          hint: 'Look at its log; it may wait for the disk.',
        }),
      ),
    );
    request.on('error', (error) => reject(connectionError(call, error)));
    request.on('response', resolve);
    request.end(body);
  });
}

function isFailure(response: IncomingMessage): boolean {
  return response.statusCode === undefined || response.statusCode >= 300;
}

function parseJson(call: Call, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw badAnswer(call, JSON.stringify(text.slice(0, 80)), error);
  }
}

/** Which codes exist: `ErrorCode` as a value, so that a newer daemon's unknown code becomes `internal`. */
const KNOWN: Record<ErrorCode, true> = {
  usage: true,
  config: true,
  'not-found': true,
  denied: true,
  unsupported: true,
  corrupt: true,
  source: true,
  timeout: true,
  busy: true,
  exists: true,
  precondition: true,
  mount: true,
  cache: true,
  daemon: true,
  cancelled: true,
  internal: true,
};

function fromApi(call: Call, value: unknown, status: number | undefined): NymphError {
  const error = (value as Partial<ApiError> | null)?.error;
  if (typeof error?.message !== 'string') return badAnswer(call, `status ${status} without an error`);
  const code = Object.hasOwn(KNOWN, error.code) ? error.code : 'internal';
  return new NymphError(code, error.message, { hint: error.hint });
}

function badAnswer(call: Call, what: string, cause?: unknown): NymphError {
  return new NymphError('daemon', `${call.address} gave no answer of nymph to ${call.method} ${call.path}: ${what}`, {
    hint: 'Check that --address is the control socket of a nymph daemon of this version.',
    cause,
  });
}

function wentAway(call: Call, cause: unknown): NymphError {
  return new NymphError(
    'daemon',
    `the daemon at ${call.address} ended before it answered ${call.method} ${call.path}`,
    {
      hint: 'Look at its log for the reason; mounts stay, and the supervisor starts it again.',
      cause,
    },
  );
}

function connectionError(call: Call, error: unknown): NymphError {
  if (error instanceof NymphError) return error;
  if (call.signal?.aborted) return new NymphError('cancelled', 'interrupted', { cause: error });
  const { address } = call;
  const start = 'Start it with `nymph daemon`.';
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new NymphError('daemon', `no daemon runs at ${address}`, { hint: start, cause: error });
    case 'ECONNREFUSED':
      return new NymphError('daemon', `nobody listens on ${address}; a daemon that died left it behind`, {
        hint: start,
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
      return new NymphError('daemon', `no permission to talk to the daemon at ${address}`, {
        hint: 'Run as root.',
        cause: error,
      });
    default:
      return wentAway(call, error);
  }
}
