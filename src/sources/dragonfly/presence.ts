import { stat } from 'node:fs/promises';
import type { Log } from '../log.ts';

/** Comings and goings are news for an operator. */
export interface PresenceLog extends Log {
  info(fields: object, message: string): void;
}

/** Whether somebody may listen on an endpoint. */
export interface Presence {
  /** As of the last look; where that is a while ago, another one is begun in the background. */
  there(): boolean;
  /** Looks now. */
  look(): Promise<void>;
}

/** dfdaemon may be installed, and may start, long after us; a look costs one stat(2). */
const LOOK_AGAIN = 2_000;

/**
 * @param endpoint of a unix socket whether it exists is looked at; any other is taken to be there
 * @param appeared is told when it was not there before
 * @param named whether a person has named it: a socket that was found must be root's or our own, because logins are sent to it
 */
export function watchEndpoint(endpoint: string, named: boolean, appeared: () => void, log: PresenceLog): Presence {
  const path = /^unix:(?:\/\/)?(\/.*)$/.exec(endpoint)?.[1];
  if (path === undefined) return { there: () => true, look: async () => appeared() };
  let present = false;
  let looked = Number.NEGATIVE_INFINITY;
  let warned = false;

  async function look(at: string): Promise<void> {
    looked = performance.now();
    const found = await stat(at).catch(() => undefined);
    const before = present;
    const ours = found !== undefined && (named || found.uid === 0 || found.uid === process.getuid?.());
    if (found?.isSocket() && !ours && !warned) {
      warned = true;
      log.warn({ socket: at, uid: found.uid }, 'a dfdaemon of another user is not used: name it as dragonfly.endpoint');
    }
    present = found?.isSocket() === true && ours;
    if (present && !before) appeared();
    if (present !== before) log.info({ socket: at }, present ? 'Dragonfly is here' : 'Dragonfly is gone');
  }

  return {
    there() {
      if (performance.now() - looked > LOOK_AGAIN) void look(path);
      return present;
    },
    look: () => look(path),
  };
}
