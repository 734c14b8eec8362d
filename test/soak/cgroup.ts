/** A memory cgroup for the daemon, of version 1 or 2, whichever the machine lets us have. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../daemon.ts';

export interface Cgroup {
  /** Bytes that its processes use, without what the kernel can give back. */
  used(): number;
  /** Limits them; undefined lifts it. */
  limit(bytes: number | undefined): void;
}

export function memoryCgroup(
  t: { after(clean: () => Promise<void>): void },
  pids: readonly number[],
): Cgroup | { why: string } {
  const [first, second] = ['/sys/fs/cgroup/memory', '/sys/fs/cgroup'];
  const isFirst = existsSync(join(first, 'memory.limit_in_bytes'));
  if (!isFirst && !/\bmemory\b/.test(readOr(join(second, 'cgroup.controllers'))))
    return { why: 'no memory controller' };
  const directory = join(isFirst ? first : second, `nymph-soak-${process.pid}`);
  try {
    mkdirSync(directory);
    if (!isFirst && !existsSync(join(directory, 'memory.max'))) {
      rmdirSync(directory);
      return { why: 'the memory controller is not enabled for children' };
    }
    for (const pid of pids) writeFileSync(join(directory, 'cgroup.procs'), String(pid));
  } catch (error) {
    return { why: (error as Error).message };
  }
  // It is empty when the daemon is gone, which ends after this.
  const remove = () =>
    until(30_000, `${directory} stays`, async () => {
      rmdirSync(directory);
      return true;
    });
  t.after(async () => {
    for (const pid of readOr(join(directory, 'cgroup.procs')).split('\n').filter(Boolean))
      writeFileSync(join(isFirst ? first : second, 'cgroup.procs'), pid);
    await remove();
  });
  return {
    used() {
      const stat = readFileSync(join(directory, 'memory.stat'), 'latin1');
      return Number(/^(?:total_rss|anon) (\d+)$/m.exec(stat)?.[1]);
    },
    limit(bytes) {
      const file = join(directory, isFirst ? 'memory.limit_in_bytes' : 'memory.max');
      writeFileSync(file, bytes === undefined ? (isFirst ? '-1' : 'max') : String(Math.floor(bytes)));
    },
  };
}

function readOr(path: string): string {
  return existsSync(path) ? readFileSync(path, 'latin1') : '';
}
