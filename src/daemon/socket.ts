import { mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { NymphError } from '../errors.ts';

/**
 * Makes way for a unix socket: its directory (mode 0700), and away with one that nobody answers.
 * @throws NymphError `busy` if somebody answers
 */
export async function claimSocket(address: string): Promise<void> {
  await mkdir(dirname(address), { recursive: true, mode: 0o700 });
  if (await answers(address))
    throw new NymphError('busy', `a daemon answers on ${address} already`, {
      hint: 'Use it, stop it with `nymph daemon --stop`, or choose another --address and --root.',
    });
  await rm(address, { force: true });
}

/** Whether somebody accepts connections on a unix socket. */
export function answers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
