import { NymphError } from '../errors.ts';

export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Record<string, unknown>,
) => void;

/** While writes fail, one is tried this often, ms. */
const PROBE_DELAY = 5000;

/** Whether the cache directory takes writes; each change of that is logged once. */
export interface Health {
  readonly writable: boolean;
  /** A write failed. From now on one is tried every few seconds, until it succeeds and no other failed since. */
  failed(what: string, error: unknown): void;
  close(): void;
}

/** @param probe writes something that needs space, and removes it */
export function createHealth(log: Log, probe: () => Promise<void>): Health {
  let timer: NodeJS.Timeout | undefined;
  let writable = true;
  let closed = false;
  let failures = 0;

  function probeLater(): void {
    if (closed) return;
    const seen = failures;
    timer = setTimeout(() => {
      probe().then(() => (failures === seen ? recovered() : probeLater()), probeLater);
    }, PROBE_DELAY).unref();
  }

  function recovered(): void {
    writable = true;
    log('info', 'the cache can be written again');
  }

  return {
    get writable() {
      return writable;
    },
    failed(what, error) {
      failures++;
      if (!writable) return;
      writable = false;
      log('error', 'the cache cannot be written; reads go on', { what, error: messageOf(error) });
      probeLater();
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An error of the file system or the catalogue as a person meets it. */
export function cacheError(what: string, cause: unknown): NymphError {
  const code = (cause as { code?: unknown })?.code;
  const full = code === 'ENOSPC' || code === 'EDQUOT' || code === 'SQLITE_FULL';
  return new NymphError('cache', `${what}: ${messageOf(cause)}`, {
    cause,
    hint: hintFor(code, full),
    retryable: full,
  });
}

function hintFor(code: unknown, full: boolean): string {
  if (full) return 'Free space on the file system of the cache, or remove what is not in use with `nymph prune`.';
  if (code === 'EMFILE' || code === 'ENFILE')
    return 'Each file of a model and each blob of an image that is in use takes open files of the daemon: raise its limit (`LimitNOFILE=` of its unit, `ulimit -n`).';
  return 'Check the permissions and the health of the file system that holds the cache.';
}
