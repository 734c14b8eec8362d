import type { FetchContext } from '../fetch/context.ts';
import { isOnDirectory, mountFuse, unmountFuse, unmountStale } from './fuse.ts';

/** Where trees are: a FUSE file system with its descriptor of /dev/fuse, and the directory on which it is mounted. */
export interface TreePlace {
  readonly fd: number;
  readonly directory: string;
}

/**
 * The second connection, for trees of images alone. Its kernel side opens and closes their files without asking us, which
 * spares two of three requests for a small file. That holds for all of a connection, so models have another: a complete
 * file of theirs is given to the kernel in an answer to OPEN. It is mounted with the first tree that needs it; most
 * machines never see it.
 */
export interface TreeConnection extends TreePlace {
  /** True if an earlier daemon served on it, and somebody may be reading there. */
  readonly inherited: boolean;
  /** For the start: what a daemon that died with its connection has left is taken away. */
  takeUp(): Promise<void>;
  /** Mounts it and answers there, once. False if that cannot be: the other connection serves trees as well. */
  open(): Promise<boolean>;
  /** True if it was mounted: somebody may be using it, also where it is out of sight. */
  isOpen(): boolean;
  /** Takes it away. */
  close(): Promise<void>;
}

/** The descriptor of /dev/fuse for it, and who hears what becomes of that. */
export interface TreeDescriptor {
  readonly fd: number;
  /** An earlier daemon has served on it. */
  readonly inherited: boolean;
  /** It is about to be mounted. Said first: from the mount on, only a daemon that inherits it can use it. */
  onMount(): void;
  /** It is mounted, by us or by an earlier daemon. */
  onMounted(): void;
  /** It is of no use any more: its mount was taken away. The next daemon needs a new one. */
  onEnd(): void;
}

export interface TreeConnectionOptions {
  directory: string;
  /** Begins to answer. */
  start: () => Promise<void>;
  log: FetchContext['log'];
}

export function createTreeConnection(
  descriptor: TreeDescriptor,
  { directory, start, log }: TreeConnectionOptions,
): TreeConnection {
  const { fd, inherited } = descriptor;
  let mounted = inherited;
  let opening: Promise<boolean> | undefined = inherited ? Promise.resolve(true) : undefined;

  async function begin(): Promise<boolean> {
    try {
      descriptor.onMount();
      await mountFuse(fd, directory);
      mounted = true;
      descriptor.onMounted();
      await start();
      return true;
    } catch (error) {
      log('warn', 'trees of images have no connection of their own: each of their files is opened by a request', {
        ...{ directory, error: (error as Error).message },
      });
      return false;
    }
  }

  return {
    fd,
    directory,
    inherited,
    async takeUp() {
      if (inherited) return descriptor.onMounted();
      await unmountStale(directory).catch((error) =>
        log('warn', 'an old mount stays', { directory, error: (error as Error).message }),
      );
    },
    async open() {
      opening ??= begin();
      // Somebody may have put it out of sight, with trees that are still bound elsewhere.
      return (await opening) && (await isOnDirectory(directory));
    },
    isOpen: () => mounted,
    async close() {
      await opening;
      if (mounted) await unmountFuse(directory);
    },
  };
}
