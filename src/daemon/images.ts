import { NymphError } from '../errors.ts';
import type { Mounts } from '../mount/mounts.ts';
import type { ImageOpener } from '../mount/open.ts';
import type { LazyImagesOptions } from '../snapshotter/lazy-images.ts';
import { digestOf, type Origin, pinned, unpinned } from '../snapshotter/origin.ts';
import type { Nearby } from '../sources/nearby.ts';
import type { Repository } from '../sources/source.ts';
import type { Service } from './service.ts';
import type { FindProgram } from './starts.ts';

/** What the snapshotter needs of the rest of the daemon. */
export interface ContainerImages extends Pick<LazyImagesOptions, 'unmount' | 'mounted'> {
  /** Mounts an image, or finds it mounted. @param nearby who may have its manifest and bootstrap */
  mount(origin: Origin, directory: string, nearby: Nearby | undefined, signal: AbortSignal): Promise<void>;
  /** Sends for what a program needs that will run in a mounted image. @param find tells what it is */
  foresee(directory: string, find: FindProgram): void;
  /** The Nydus image that stands beside an ordinary one, or refers to it. */
  alternative(ordinary: Origin, signal: AbortSignal): Promise<Origin | undefined>;
  repository(origin: Origin): Repository;
}

/** Containers' root file systems are mounts like others, but that devices work in them. */
export function imagesForContainers(service: Service, mounts: Mounts, opener: ImageOpener): ContainerImages {
  return {
    async mount(origin, directory, nearby, signal) {
      if ((await mounts.find(directory)) !== undefined) return;
      await service.mount({ reference: origin, directory }, () => {}, signal, { nearby });
    },
    async unmount(directory) {
      await mounts.remove(directory, false).catch((error) => {
        // Somebody else was faster.
        if (!(error instanceof NymphError && error.code === 'not-found')) throw error;
      });
    },
    mounted: () => mounts.list().map(({ stored }) => stored.directory),
    foresee: service.foresee,
    async alternative(ordinary, signal) {
      // By its tag: a digest means what it says, and nothing beside it.
      const reference = unpinned(ordinary);
      if (reference === undefined) return undefined;
      const { digest, choice } = await opener.resolve(reference, undefined, () => {}, signal);
      return choice?.ordinary === digestOf(ordinary) ? pinned(reference, digest) : undefined;
    },
    repository: (origin) => opener.repository(origin),
  };
}
