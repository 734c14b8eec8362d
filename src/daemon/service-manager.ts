import { type NotifySocket, openNotifySocket } from './notify-socket.ts';

/**
 * What a service manager such as systemd is told (sd_notify(3)). The daemon speaks, not its supervisor: only the daemon
 * knows when it serves, and the supervisor has Node's own modules alone, which cannot send datagrams. So the unit needs
 * `NotifyAccess=all`. Without $NOTIFY_SOCKET nothing is said.
 */
export interface ServiceManager {
  /** True if there is one: it starts us again, and keeps what {@link keep} gave it. */
  readonly present: boolean;
  /** It keeps this descriptor over a restart, until the connection at its other end is gone. */
  keep(fd: number, name: string): void;
  /** We serve. */
  serving(): void;
  /** From now on this process is the one to be watched and stopped. */
  main(pid: number): void;
  stopping(): void;
}

/** A start that goes on may take so long again, µs. */
const EXTENSION_US = 60_000_000;
const STARTING_MS = 10_000;
/** One that is out of room is told again, ms. */
const RETRY_MS = 200;
const MOST_TRIES = 50;

/**
 * @param log a warning: the daemon serves, whether somebody hears of it or not
 */
export function serviceManager(environment: NodeJS.ProcessEnv, log: (message: string) => void): ServiceManager {
  const socket = open(environment.NOTIFY_SOCKET, log);
  let starting = true;

  function say(text: string, fd?: number, tries = MOST_TRIES): void {
    if (socket === undefined || socket.send(text, fd)) return;
    if (tries > 0) setTimeout(() => say(text, fd, tries - 1), RETRY_MS).unref();
    else log('the service manager does not take messages');
  }

  if (socket !== undefined) {
    const extend = () => starting && say(`EXTEND_TIMEOUT_USEC=${EXTENSION_US}`);
    setInterval(extend, STARTING_MS).unref();
    // The main thread answers faults: as long as it runs, the daemon lives.
    const watchdog = Number(environment.WATCHDOG_USEC ?? 0) / 1000;
    if (watchdog > 0) setInterval(() => socket.send('WATCHDOG=1'), watchdog / 3).unref();
  }

  return {
    present: socket !== undefined,
    keep: (fd, name) => say(`FDSTORE=1\nFDNAME=${name}`, fd),
    serving() {
      starting = false;
      say('READY=1\nSTATUS=serving');
    },
    main: (pid) => say(`MAINPID=${pid}`),
    stopping: () => say('STOPPING=1'),
  };
}

function open(address: string | undefined, log: (message: string) => void): NotifySocket | undefined {
  if (address === undefined || address === '') return undefined;
  try {
    return openNotifySocket(address);
  } catch (error) {
    log((error as Error).message);
    return undefined;
  }
}
