import { type ChildProcess, spawn } from 'node:child_process';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NymphError } from '../errors.ts';
import { type DaemonMessage, LIVED_MS, NODE_FLAGS, type SupervisorMessage } from './supervision.ts';
import type { Adoption } from './supervisor-main.ts';

/**
 * The daemon's end of the channel to its supervisor: the process that started it or, once that one is gone, one that it
 * starts itself, which goes on watching it with the same descriptors of /dev/fuse. A daemon that was started without a
 * supervisor has none: nothing is said then, and nothing awaited.
 */
export interface SupervisorLink {
  /** Process id of the supervisor, while there is one that watches. */
  pid(): number | undefined;
  /** True if that one is, or will be, started by a daemon. */
  standIn(): boolean;
  /** Tells the supervisor, and the next one if it should know. */
  tell(message: DaemonMessage): void;
  /**
   * Has the supervisor look up paths below our own FUSE mount, so that the kernel knows the names when a thread of this
   * process comes upon them. Resolves when that is done, or nobody answers.
   */
  lookUp(paths: string[]): Promise<void>;
  /** Of a successor: resolves when the daemon before has ended. */
  takeOver(): Promise<void>;
  /** What was awaited of a successor has come: this daemon serves. */
  up(): void;
  /**
   * Has the supervisor start another program beside this one; resolves when that could take over: this daemon must end
   * then, and leave the FUSE connection.
   * @param limit ms that it may take to get ready, and again to serve
   * @throws NymphError `precondition` if it cannot; this daemon goes on
   */
  succeed(command: string[], limit: number): Promise<void>;
  /** Tells the supervisor with which status this process ends; no other supervisor is started from now on. */
  leave(status: number): void;
}

export interface SupervisorLinkOptions {
  /** True if another daemon serves, and this one waits for its end. */
  successor: boolean;
  /** It has the second descriptor of /dev/fuse. */
  trees: boolean;
  /** The supervisor died before this daemon could begin: nobody will tell it to. */
  onAbandoned: () => void;
  /** Starts another supervisor for this process, with a channel to it ({@link startSupervisor}); `told` it must know. */
  next: (told: DaemonMessage[]) => ChildProcess;
  /** This process is our supervisor from now on. */
  onWatching: (pid: number) => void;
  /** The supervisor is gone, and another is started in `pause` ms. */
  onGone: (pause: number) => void;
}

/** Where messages come from: this process, whose parent is at the other end, or the child that was started. */
type End = NodeJS.Process | ChildProcess;

const PATIENCE_MS = 5_000;
/** The least time from the start of one that does not live to the next; it doubles from the first to the last, ms. */
const FIRST_PAUSE_MS = 50;
const LAST_PAUSE_MS = 5_000;

export function supervisorLink(options: SupervisorLinkOptions): SupervisorLink {
  const { next, onWatching, onGone } = options;
  const waiting = new Map<number, { message: DaemonMessage; answered: () => void }>();
  /** What the next supervisor must know. */
  const state: DaemonMessage[] = [];
  const supervised = process.send !== undefined;
  let lastId = 0;
  let pause = 0;
  let leaving = false;
  let bereft = false;
  let isWaiting = options.successor;
  let began = () => {};
  const beginning = new Promise<void>((resolve) => {
    began = resolve;
  });
  let succession: { handOver: () => void; declined: (why: string) => void } | undefined;
  let supervisor: { end: End; pid?: number; standIn: boolean } | undefined;

  const send = (message: DaemonMessage) => {
    // One that dies meanwhile is noticed by its channel.
    if (supervisor?.end.connected) supervisor.end.send?.(message, undefined, undefined, () => {});
  };

  /** Starts another, at once where the last one has lived a while: until then this process alone holds the connection. */
  function retry(lived: number): void {
    if (lived > LIVED_MS) pause = 0;
    const rest = Math.max(pause - lived, 0);
    onGone(rest);
    if (rest > 0) setTimeout(startNext, rest);
    else startNext();
    pause = Math.min(Math.max(pause * 2, FIRST_PAUSE_MS), LAST_PAUSE_MS);
  }

  /** Another supervisor, of this version, comes for one that goes then. */
  function resign(end: End): void {
    if (leaving || supervisor?.end !== end) return;
    try {
      watch(next(state), end);
      bereft = true;
    } catch {
      // No process to be had: the one that is there watches on.
    }
  }

  /** @param before the supervisor that may go when this one is there */
  function watch(end: End, before?: End): void {
    const begun = performance.now();
    const watched: typeof supervisor = { end, standIn: false };
    supervisor = watched;
    const gone = () => {
      if (supervisor?.end !== end) return;
      supervisor = undefined;
      bereft = true;
      succession?.declined('the supervisor is gone');
      if (leaving) return;
      if (isWaiting) return options.onAbandoned();
      retry(performance.now() - begun);
    };
    const emitter = end as NodeJS.EventEmitter;
    emitter.on('message', (message: SupervisorMessage) => {
      if (message.type === 'watching') {
        const pid = end === process ? process.ppid : end.pid;
        Object.assign(watched, { pid, standIn: message.standIn });
        if (pid !== undefined) onWatching(pid);
        before?.send?.({ type: 'relieved' } satisfies DaemonMessage, undefined, undefined, () => {});
      } else if (message.type === 'looked-up') waiting.get(message.id)?.answered();
      else if (message.type === 'hand-over') succession?.handOver();
      else if (message.type === 'declined') succession?.declined(message.why);
      else if (message.type === 'resign') resign(end);
      else if (message.type === 'take-over') {
        isWaiting = false;
        began();
      }
    });
    emitter.once('disconnect', gone);
    // It could not be started.
    if (end !== process) emitter.on('error', gone);
    for (const { message } of waiting.values()) send(message);
    if (end === process && !process.connected) gone();
  }

  function startNext(): void {
    if (leaving) return;
    try {
      watch(next(state));
    } catch {
      // No processes or no descriptors to be had now: there may be later.
      pause = LAST_PAUSE_MS;
      retry(0);
    }
  }

  if (supervised) watch(process);

  return {
    pid: () => supervisor?.pid,
    standIn: () => bereft || supervisor?.standIn === true,
    tell(message) {
      state.push(message);
      send(message);
    },
    lookUp(paths) {
      if (!supervised || leaving || paths.length === 0) return Promise.resolve();
      const id = ++lastId;
      const message: DaemonMessage = { type: 'look-up', id, paths };
      return new Promise((resolve) => {
        const answered = () => {
          clearTimeout(patience);
          waiting.delete(id);
          resolve();
        };
        // One that is stopped answers nobody; the mount is then made at the small risk that this was to avoid.
        const patience = setTimeout(answered, PATIENCE_MS);
        waiting.set(id, { message, answered });
        send(message);
      });
    },
    takeOver() {
      if (isWaiting) send({ type: 'prepared', trees: options.trees });
      return isWaiting ? beginning : Promise.resolve();
    },
    up: () => send({ type: 'up' }),
    succeed(command, limit) {
      const refuse = (why: string) =>
        new NymphError('precondition', `another version cannot take over: ${why}`, {
          hint: 'The daemon that runs goes on. Its log, in which the other one writes too, has more.',
        });
      if (succession !== undefined) throw refuse('one is being started already');
      if (!supervisor?.end.connected) throw refuse('there is no supervisor just now');
      return new Promise<void>((resolve, reject) => {
        succession = { handOver: resolve, declined: (why) => reject(refuse(why)) };
        send({ type: 'successor', command, limit });
      }).finally(() => {
        succession = undefined;
      });
    },
    leave(status) {
      leaving = true;
      send({ type: 'leaving', status });
    },
  };
}

/**
 * Starts a supervisor for this process.
 * @param fds descriptors of /dev/fuse for it to keep
 */
export function startSupervisor(
  fds: { fuse?: number; trees?: number },
  adoption: Omit<Adoption, 'pid' | 'fuse' | 'trees'>,
): ChildProcess {
  const script = fileURLToPath(new URL(`supervisor-main${extname(import.meta.url)}`, import.meta.url));
  const [fuse, trees] = [fds.fuse !== undefined, fds.trees !== undefined];
  const whole: Adoption = { ...adoption, pid: process.pid, fuse, trees };
  return spawn(process.execPath, [...NODE_FLAGS, script, JSON.stringify(whole)], {
    stdio: ['ignore', 'inherit', 'inherit', fds.fuse ?? 'ignore', 'ipc', fds.trees ?? 'ignore'],
  });
}
