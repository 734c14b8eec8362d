/** A daemon of another version in the place of the one that serves. Part of the supervisor: only Node's own modules. */
import type { DaemonMessage, Held } from './supervision.ts';
import { type Listener, started, type Watched } from './watched.ts';

/** A daemon that could begin, and waits. */
export interface Successor {
  readonly command: readonly string[];
  readonly daemon: Watched;
  /** It would serve on the second descriptor, too; and what it was told of that. */
  readonly servesTrees: boolean;
  readonly inheritsTrees: boolean;
  /**
   * Lets it begin: the one before has ended.
   * @returns undefined once it serves, or why it does not; then it is gone
   */
  begin(): Promise<string | undefined>;
}

/** Why there is none. */
export interface Failed {
  why: string;
}

/**
 * Starts a daemon and waits until it could begin.
 * @param command program and arguments
 * @param limit ms for each of its steps: to get ready, and to serve
 * @param listen hears what it says
 */
export async function prepareSuccessor(
  command: readonly string[],
  limit: number,
  held: { fuse: Held; trees?: Held },
  listen: Listener,
): Promise<Successor | Failed> {
  const waiting = new Map<DaemonMessage['type'], () => void>();
  const inheritsTrees = held.trees?.inherited === true;
  let servesTrees = false;
  const daemon = started(
    command,
    (message, from) => {
      if (message.type === 'prepared') servesTrees = message.trees === true;
      waiting.get(message.type)?.();
      listen(message, from);
    },
    { ...held, pause: 0, successor: true },
  );

  /** Waits for a message. @returns why it does not come; the daemon is gone then */
  async function expect(type: DaemonMessage['type'], what: string): Promise<string | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const failure = await Promise.race([
      new Promise<undefined>((resolve) => waiting.set(type, () => resolve(undefined))),
      daemon.ended.then((end) => `it ended (${end}) ${what}`),
      new Promise<string>((resolve) => {
        timer = setTimeout(() => resolve(`it was not there within ${limit / 1000} s, ${what}`), limit);
      }),
    ]);
    clearTimeout(timer);
    if (failure !== undefined) {
      daemon.kill('SIGKILL');
      await daemon.ended;
    }
    return failure;
  }

  const why = await expect('prepared', 'before it could begin');
  if (why !== undefined) return { why };
  return {
    command,
    daemon,
    servesTrees,
    inheritsTrees,
    begin() {
      const outcome = expect('up', 'before it served');
      daemon.send({ type: 'take-over' });
      return outcome;
    },
  };
}
