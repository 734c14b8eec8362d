import { readFileSync } from 'node:fs';
import koffi from 'koffi';

/** How many files this process may have open at once. */
export interface OpenFilesLimit {
  limit: number;
  /** Set if that is few. */
  low?: string;
}

/** getrlimit(2), on every Linux architecture that Node runs on. */
const RLIMIT_NOFILE = 7;
/** A node with 5,000 blobs open at once. */
const ENOUGH = 20_000;
/** What is asked for where it may be raised: beyond this no node was seen to go. */
const WISH = 1_048_576;

/**
 * Raises the limit of open files as far as this process may. Node has made the soft limit the hard one at its start; root
 * may raise that one too, up to `fs.nr_open`. Synchronous: for start-up.
 */
export function raiseOpenFiles(): OpenFilesLimit {
  const most = Math.min(WISH, Number.parseInt(readFileSync('/proc/sys/fs/nr_open', 'latin1'), 10));
  const limit = currentLimit();
  if (limit < most) {
    const setrlimit = koffi.load('libc.so.6').func('int setrlimit(int resource, const uint64_t *limits)');
    // Without CAP_SYS_RESOURCE it stays as it is.
    setrlimit(RLIMIT_NOFILE, BigUint64Array.of(BigInt(most), BigInt(most)));
  }
  return describe(currentLimit());
}

/** What a limit means. */
export function describe(limit: number): OpenFilesLimit {
  if (limit >= ENOUGH) return { limit };
  return {
    limit,
    low: `at most ${limit} files can be open, 3 for each blob of what is mounted: set LimitNOFILE (systemd) or ulimit -n to ${ENOUGH} or more`,
  };
}

function currentLimit(): number {
  const soft = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
  return soft === 'unlimited' ? WISH : Number(soft);
}
