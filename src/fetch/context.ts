import type { CachedBlob } from '../cache/cache.ts';
import type { Priority, ThreadPool } from '../threads/pool.ts';
import type { Gate } from './gate.ts';
import type { FetchPolicy } from './policy.ts';
import type { Race } from './race.ts';
import type { FetchStatistics } from './statistics.ts';

/** What all fetchers of a daemon share. */
export interface FetchContext {
  policy: FetchPolicy;
  pool: ThreadPool;
  gates: Record<Priority, Gate>;
  statistics: FetchStatistics;
  race: Race;
  log: (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: object) => void;
  /** Bits of the blob's map have changed. */
  changed: (blob: CachedBlob) => void;
  /** The file of the blob took no data. */
  refused: (blob: CachedBlob, reason: string) => void;
  /** A reader waits for the byte at `offset` of a blob. */
  awaited: (blob: CachedBlob, offset: number) => void;
  /** A chunk that a reader waited for has arrived. @param isProgram it begins like one */
  arrived: (blob: CachedBlob, offset: number, isProgram: boolean) => void;
}
