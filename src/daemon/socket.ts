import { mkdir, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { NymphError } from '../errors.ts';

/**
 * Makes way for a unix socket: its directory (mode 0700), and away with one that nobody answers.
 * @throws NymphError `busy` if somebody answers, `config` if something else is there
 */
export async function claimSocket(address: string): Promise<void> {
  await mkdir(dirname(address), { recursive: true, mode: 0o700 });
  if (await answers(address))
    throw new NymphError('busy', `a daemon answers on ${address} already`, {
      hint: 'Use it, stop it with `nymph daemon --stop`, or choose another --address and --root.',
    });
  const found = await stat(address).catch(() => undefined);
  if (found !== undefined && !found.isSocket())
    throw new NymphError('config', `${address} is no socket`, { hint: 'Remove it, or name another address.' });
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
    // EAGAIN: so many wait there that there is no place in the queue.
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EAGAIN'));
  });
}
