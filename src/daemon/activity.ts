import type { Cache, StoredImage } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { Mounts } from '../mount/mounts.ts';
import { PLACES } from '../mount/places.ts';
import type { LayerStatus, SnapshotsStatus } from '../snapshotter/summary.ts';
import type { ImageActivity, ImageInfo, SlowRead } from './api.ts';
import { countsOf } from './live.ts';

const MOST_SLOW = 10;
/** Of reads whose files are looked for. */
const MOST_NAMED = 64;

export interface ActivityParts {
  cache: Cache;
  mounts: Mounts;
  context: FetchContext;
  /** @returns undefined if nothing of it is in the cache @throws NymphError `usage` */
  find(name: string): StoredImage | undefined;
  canonical(name: string): string;
  info(stored: StoredImage): Promise<ImageInfo>;
  snapshots(): Promise<SnapshotsStatus | undefined>;
}

/** What goes on with one image: whether it is lazy and why, where its bytes came from, which reads waited longest. */
export function createActivity(parts: ActivityParts): (name: string) => Promise<ImageActivity> {
  const { cache, mounts, context, find, info } = parts;

  async function slowest(stored: StoredImage): Promise<SlowRead[]> {
    const found = stored.blobs.flatMap(({ key, id, path }, blob) =>
      (context.statistics.blobs.get(key)?.slowest ?? []).map((slow) => ({ ...slow, blob, id, path })),
    );
    const worst = found.sort((a, b) => b.milliseconds - a.milliseconds).slice(0, MOST_NAMED);
    const unnamed = worst.filter(({ path }) => path === undefined);
    const paths =
      unnamed.length === 0
        ? []
        : await context.pool.run(PLACES, { bootstrap: cache.bootstrapPath(stored.digest), places: unnamed });
    for (const [i, slow] of unnamed.entries()) slow.path = paths[i];
    // The kernel reads on in a file in pieces, which wait together.
    const names = worst.map(({ id, offset, path }) => path ?? `${id}:${offset}`);
    const each = worst.filter((_, i) => names.indexOf(names[i]) === i).slice(0, MOST_SLOW);
    return each.map(({ id, offset, path, milliseconds, at }) => ({
      blob: id,
      offset,
      ...(path !== undefined && { path }),
      milliseconds,
      at,
    }));
  }

  return async (name) => {
    const stored = find(name);
    if (stored === undefined) return ordinary(parts.canonical(name), await parts.snapshots());
    const active = mounts.list().filter((mount) => mount.stored.digest === stored.digest);
    const image = await info(stored);
    const keys = stored.blobs.map(({ key }) => key);
    return {
      reference: stored.reference,
      laziness: { lazy: true, why: lazinessOf(image, active[0]?.stored) },
      image,
      ...countsOf(keys, context.statistics.blobs),
      slowest: await slowest(stored),
    };
  };
}

function lazinessOf({ size, ready }: ImageInfo, mount: { kind: string; reason?: string } | undefined): string {
  const rest = ready >= size ? 'all of it is here' : 'what is missing comes when it is read';
  if (mount === undefined) return `it is not mounted; ${rest}`;
  const way = mount.kind === 'erofs' ? 'mounted by EROFS' : 'mounted as a FUSE tree';
  return `${way}${mount.reason === undefined ? '' : ` (${mount.reason})`}; ${rest}`;
}

/** An image of which nothing is in the cache: containerd may have unpacked it here. */
function ordinary(reference: string, snapshots: SnapshotsStatus | undefined): ImageActivity {
  const layers = snapshots?.layers.filter(({ pulledFor, image }) => isFor(reference, pulledFor, image)) ?? [];
  if (layers.length === 0)
    throw new NymphError('not-found', `no image ${reference} is here`, {
      hint: '`nymph ls` lists what is. Of layers that were pulled without saying for what, `nymph status` has the reasons.',
    });
  return { reference, laziness: layersLaziness(layers), faults: 0, failed: 0, bytes: {}, slowest: [] };
}

function isFor(reference: string, ...names: (string | undefined)[]): boolean {
  return names.some((name) => name === reference || name?.startsWith(`${reference}@`));
}

function layersLaziness(layers: readonly LayerStatus[]): ImageActivity['laziness'] {
  const unpacked = layers.filter(({ lazy }) => !lazy);
  if (unpacked.length === 0) return { lazy: true, why: 'containerd has it from here; nothing of it was read yet' };
  const reasons = new Set(unpacked.map(({ reason = 'no reason is known' }) => reason));
  return { lazy: false, why: `${unpacked.length} of ${layers.length} layers are unpacked: ${[...reasons].join('; ')}` };
}
