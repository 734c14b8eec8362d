import { execFile } from 'node:child_process';
import type { Cache, StoredMount } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { NativeDriver } from '../fuse/native-driver.ts';
import { unmount } from './erofs.ts';
import { isOurs } from './fuse.ts';
import type { Trees } from './trees.ts';
import type { Way, Ways } from './ways.ts';

/** What there is with the driver `fuse-native`: each image a FUSE mount of its own, made by libfuse. */
export function nativeWays(cache: Cache, driver: NativeDriver, trees: Trees): Ways {
  const erofs: Way = {
    serve: async () => ({}),
    mount: () =>
      Promise.reject(
        new NymphError('unsupported', 'the driver fuse-native has no blob files that EROFS could read', {
          hint: 'Mount as a FUSE tree (--via fuse), or use the driver `kernel` as root.',
        }),
      ),
    unmount: takeAway,
    isThere: (there, { digest }) => there?.type === 'erofs' && there.source === cache.bootstrapPath(digest),
    isAlive: () => false,
    isUsed: async () => false,
  };
  const fuse: Way = {
    serve: async (image) => ({ tree: await trees.serve(image) }),
    async mount(_, stored: StoredMount) {
      await driver.mountTree(stored.tree!, stored.directory);
      return stored;
    },
    async unmount(directory, detach) {
      await takeAway(directory, detach);
      driver.forgetMount(directory);
    },
    isThere: (there) => there !== undefined && isOurs(there) && there.root === '/',
    isAlive: () => false,
    // The connection belongs to the mount: who still uses it gets errors.
    isUsed: async () => false,
  };
  return { erofs, fuse };
}

/** Root unmounts as always; for others fusermount does. */
async function takeAway(directory: string, detach: boolean): Promise<void> {
  if (process.getuid?.() === 0) return unmount(directory, detach);
  const refusal = await fusermount(['-u', ...(detach ? ['-z'] : []), '--', directory]);
  if (refusal === undefined || /not found in|not mounted/.test(refusal)) return;
  if (/busy/.test(refusal))
    throw new NymphError('busy', `${directory} is in use`, {
      hint: `Stop what uses it (fuser -vm ${directory}), or detach it with --force.`,
    });
  throw new NymphError('mount', `cannot unmount ${directory}: ${refusal}`);
}

/** @returns undefined, or what it said */
function fusermount(args: string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile('fusermount', args, { env: { ...process.env, LC_ALL: 'C' } }, (error, _, said) =>
      resolve(error === null ? undefined : said.trim() || error.message),
    );
  });
}
