import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { replaceWhole } from './disk.ts';
import type { Place } from './entry.ts';
import { cacheError } from './health.ts';
import { OCI_DIGEST } from './layout.ts';
import { createSerialTasks } from './serial.ts';

/** What was read first of images: small files that outlive the images themselves, for when they come back. */
export interface TraceStore {
  put(digest: OciDigest, trace: string): Promise<void>;
  get(digest: OciDigest): Promise<string | undefined>;
  /** Removes the oldest where there are too many. */
  trim(): Promise<void>;
}

/** A few KiB each. */
const MOST_TRACES = 1000;

export function createTraceStore({ disk, layout, health }: Pick<Place, 'disk' | 'layout' | 'health'>): TraceStore {
  const tasks = createSerialTasks();

  function pathOf(digest: OciDigest): string {
    if (!OCI_DIGEST.test(digest)) throw new NymphError('usage', `${JSON.stringify(digest)} is not an OCI digest`);
    return join(layout.traces, digest.slice('sha256:'.length));
  }

  return {
    async put(digest, trace) {
      const path = pathOf(digest);
      await tasks.run(digest, async () => {
        try {
          await replaceWhole(disk, path, Buffer.from(trace));
        } catch (error) {
          health.failed(`trace of ${digest}`, error);
          throw cacheError(`cannot keep the trace of ${digest}`, error);
        }
      });
    },
    async get(digest) {
      try {
        return await readFile(pathOf(digest), 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw cacheError(`cannot read the trace of ${digest}`, error);
      }
    },
    async trim() {
      const names = await readdir(layout.traces);
      if (names.length <= MOST_TRACES) return;
      const aged = await Promise.all(
        names.map(async (name) => ({ name, at: (await stat(join(layout.traces, name))).mtimeMs })),
      );
      aged.sort((a, b) => a.at - b.at);
      for (const { name } of aged.slice(0, names.length - MOST_TRACES)) await disk.remove(join(layout.traces, name));
    },
  };
}
