/** What a daemon and its supervisor agree on. Of every version that one may follow the other: only add. */

/** The daemon finds /dev/fuse here, as does a supervisor that it starts. */
export const FUSE_FD = 3;
/** And here a second one, for trees of images (`mount/connection.ts`), if {@link TREES_ENV} says so; 4 is the channel. */
export const TREES_FD = 5;
/** Set for a daemon that inherits a connection on which another has served before. */
export const INHERITED_ENV = 'NYMPH_FUSE_INHERITED';
/** `new` or `inherited`; without it there is no second descriptor. */
export const TREES_ENV = 'NYMPH_FUSE_TREES';
/**
 * How long a daemon waits before it begins, ms. Waiting here, before it is started, this process alone would hold the
 * connection meanwhile.
 */
export const PAUSE_ENV = 'NYMPH_START_PAUSE';
/** Set for a daemon that is started beside the one that serves: it gets ready, says so, and waits until it may begin. */
export const SUCCESSOR_ENV = 'NYMPH_SUCCESSOR';

/**
 * Small heaps, few arenas: both processes run on every node. What comes over the network counts as old space: with a heap as
 * small as ours V8 would collect all of it every 10 MB, which at 200 MB/s took more than half of the CPU. Idle memory stays.
 */
export const NODE_FLAGS = [
  '--max-semi-space-size=2',
  '--initial-old-space-size=128',
  '--disable-warning=ExperimentalWarning',
];
/** What lived this long has started well: the next pause is the first again. */
export const LIVED_MS = 30_000;

/** A descriptor of /dev/fuse. */
export interface Held {
  readonly fd: number;
  /** A daemon has mounted it, and served on it. */
  inherited: boolean;
}

/** What the daemon tells the supervisor (Node's IPC channel). */
export type DaemonMessage =
  | { type: 'mounted' }
  /** The same of the second descriptor. */
  | { type: 'trees-mounted' }
  | { type: 'ready' }
  /** It serves containerd on this socket. */
  | { type: 'listening'; path: string }
  /** The FUSE connection is gone: somebody unmounted it. The next daemon needs a new one. */
  | { type: 'lost' }
  /** So is that of the second descriptor; the first goes on. */
  | { type: 'trees-lost' }
  /** It ends now: who is not its parent cannot learn its exit status otherwise. */
  | { type: 'leaving'; status: number }
  /** The kernel should ask for these names. */
  | { type: 'look-up'; id: number; paths: string[] }
  /** Another program shall follow it. Each of its two steps, to get ready and to serve, may take `limit` ms. */
  | { type: 'successor'; command: string[]; limit: number }
  /** A successor could begin. `trees`: it serves on the second descriptor, too. */
  | { type: 'prepared'; trees?: boolean }
  /** It serves, and answers. */
  | { type: 'up' }
  /** It has another supervisor, of its own version. */
  | { type: 'relieved' };
/** What the supervisor says. */
export type SupervisorMessage =
  /** From now on it is there, and heeds signals. `standIn`: it was started by a daemon, in the place of one that died. */
  | { type: 'watching'; standIn: boolean }
  | { type: 'looked-up'; id: number }
  /** The successor is ready: the daemon ends now, and leaves the FUSE connection as it is. */
  | { type: 'hand-over' }
  /** The successor is none; the daemon goes on. */
  | { type: 'declined'; why: string }
  /** The one before has ended. */
  | { type: 'take-over' }
  /** The daemon, of another version than this supervisor, shall start one of its own. */
  | { type: 'resign' };
