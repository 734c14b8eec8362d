import { setTimeout as sleep } from 'node:timers/promises';
import type { Live } from '../../daemon/api.ts';
import type { ControlClient } from '../../daemon/control-client.ts';
import { NymphError } from '../../errors.ts';
import type { Context } from '../context.ts';
import { coloured } from '../text.ts';
import { frame } from '../top/frame.ts';
import { ratesOf } from '../top/rates.ts';

export interface TopOptions {
  once?: boolean;
  /** Seconds. */
  interval: number;
}

/** What switches to the terminal's second screen and hides the cursor, and what puts all back. */
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';

/** `nymph top`: draws until it is told to stop; with `--once`, or without a terminal, one picture of one interval. */
export async function run(context: Context, { once, interval }: TopOptions): Promise<undefined> {
  const client = await context.daemon();
  const signal = context.interruption();
  const first = await client.live();
  if (context.globals.json) await printLines(context, client, first, interval, once === true, signal);
  else if (once || !process.stdout.isTTY) {
    await sleep(interval * 1000, undefined, { signal }).catch(() => {});
    const live = await client.live();
    context.print(live, () => picture(live, first, process.stdout.columns || 80, Number.POSITIVE_INFINITY).join('\n'));
  } else await draw(client, first, interval, signal);
}

/** One document a line. */
async function printLines(
  context: Context,
  client: ControlClient,
  first: Live,
  interval: number,
  once: boolean,
  signal: AbortSignal,
): Promise<void> {
  for (let before = first; await pause(interval, signal); ) {
    const live = await client.live();
    const { health, cache } = live;
    context.print({ ...ratesOf(before, live), health, cache }, () => '');
    if (once) return;
    before = live;
  }
}

async function draw(client: ControlClient, first: Live, interval: number, signal: AbortSignal): Promise<void> {
  const { stdin, stdout } = process;
  const ending = new AbortController();
  const end = () => ending.abort();
  const leave = () => {
    if (stdin.isTTY) stdin.setRawMode(false);
    stdout.write(LEAVE);
  };
  // At first, what was since the daemon's start.
  let before: Live | undefined;
  let live = first;
  let trouble: string | undefined;
  const show = () => {
    const [width, height] = [stdout.columns || 80, stdout.rows || 24];
    const lines = trouble === undefined ? picture(live, before, width, height - 1) : [trouble.slice(0, width)];
    lines.push(coloured('dim', 'q quits'));
    // Each line is cleared behind its text, and what is below the last: nothing flickers.
    stdout.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join('\r\n')}\x1b[J`);
  };
  const onKey = (key: Buffer) => {
    if (/[qQ\x03\x04]/.test(key.toString('latin1'))) end();
  };
  signal.addEventListener('abort', end);
  process.once('SIGHUP', end);
  // Whatever ends the process: a terminal in raw mode on the second screen is of no use to anybody.
  process.once('exit', leave);
  stdout.write(ENTER);
  try {
    if (stdin.isTTY) stdin.setRawMode(true).on('data', onKey);
    stdout.on('resize', show);
    show();
    while (await pause(interval, ending.signal)) {
      const now = await client.live().catch((error: unknown) => {
        if (!(error instanceof NymphError) || error.code === 'cancelled') throw error;
        return error;
      });
      trouble = now instanceof NymphError ? `${now.message}; waiting for it` : undefined;
      if (!(now instanceof NymphError)) [before, live] = [live, now];
      show();
    }
  } catch (error) {
    if (!ending.signal.aborted) throw error;
  } finally {
    stdout.off('resize', show);
    stdin.off('data', onKey);
    stdin.pause();
    process.off('exit', leave);
    leave();
  }
}

function picture(live: Live, before: Live | undefined, width: number, height: number): string[] {
  const [title, ...lines] = frame(live, ratesOf(before, live), width, height);
  return [
    coloured('bold', title),
    ...lines.map((line) => (/^(?:SOURCE|IMAGE) /.test(line) ? coloured('dim', line) : line)),
  ];
}

/** @returns false if it was ended meanwhile */
async function pause(seconds: number, signal: AbortSignal): Promise<boolean> {
  await sleep(seconds * 1000, undefined, { signal }).catch(() => {});
  return !signal.aborted;
}
