import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ControlClient, isDaemonAbsent } from '../daemon/control-client.ts';
import { textLine } from '../daemon/log-text.ts';
import { NymphError } from '../errors.ts';
import { EXIT } from '../exit-status.ts';
import type { Context } from './context.ts';

/** A daemon that does not answer within this time, ms, is taken for broken. */
const START_LIMIT = 30_000;
const POLL = 25;
/** What of its log is shown when it dies. */
const TAIL_LINES = 10;
const TAIL_BYTES = 16 * 1024;

/**
 * Starts a daemon in the background, with the same configuration, where none runs; returns when it answers. Its output
 * goes to `<root>/daemon.log`.
 * @throws NymphError `daemon` with the end of its log if it dies or does not answer in 30 s; `busy` if the root belongs to
 * a daemon with another socket
 */
export async function startDaemon(context: Context): Promise<void> {
  const client = await context.daemon();
  if (await answers(client)) return;
  const file = join(context.config.root, 'daemon.log');
  const begin = performance.now();
  const { child, logged } = await spawnDaemon(context, file);
  let died: string | undefined;
  let busy = false;
  child.on('error', (error) => (died = error.message));
  child.on('exit', (code, signal) => {
    // Another `nymph mount` may have started one a moment before: that one holds the lock, and will answer.
    if (code === EXIT.busy) busy = true;
    else died = signal === null ? `exit status ${code}` : `signal ${signal}`;
  });
  try {
    while (!(await answers(client))) {
      if (died !== undefined) throw await failedStart(`the daemon ended at once: ${died}`, file, logged);
      if (busy && performance.now() - begin > START_LIMIT) throw otherDaemon(context);
      if (performance.now() - begin > START_LIMIT)
        throw await failedStart(`the daemon did not answer within ${START_LIMIT / 1000} s`, file, logged);
      await sleep(POLL);
    }
  } catch (error) {
    child.kill('SIGTERM');
    throw error;
  }
  if (process.stderr.isTTY) process.stderr.write(`nymph: started the daemon; its log is ${file}\n`);
}

async function answers(client: ControlClient): Promise<boolean> {
  try {
    await client.health();
    return true;
  } catch (error) {
    if (isDaemonAbsent(error)) return false;
    throw error;
  }
}

/** `logged`: size of the log before, so that only what this start says is shown. */
async function spawnDaemon(context: Context, file: string): Promise<{ child: ChildProcess; logged: number }> {
  const { config: configFile, root, address, driver } = context.globals;
  const args = [...process.execArgv, process.argv[1]];
  for (const [option, value] of Object.entries({
    '--config': configFile,
    '--root': root,
    '--address': address,
    '--driver': driver,
  }))
    if (value !== undefined) args.push(option, value);
  try {
    await mkdir(context.config.root, { recursive: true, mode: 0o700 });
    await mkdir(dirname(context.config.address), { recursive: true, mode: 0o700 });
    await using log = await open(file, 'a', 0o600);
    const { size } = await log.stat();
    const child = spawn(process.execPath, [...args, 'daemon'], {
      detached: true,
      cwd: '/',
      stdio: ['ignore', log.fd, log.fd],
    });
    child.unref();
    return { child, logged: size };
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new NymphError('daemon', `cannot start the daemon with root ${context.config.root}: ${why}`, {
      hint: 'Run as root, or name directories that you may write with --root and --address.',
      cause: error,
    });
  }
}

function otherDaemon({ config }: Context): NymphError {
  return new NymphError('busy', `another daemon uses ${config.root}, and none answers on ${config.address}`, {
    hint: 'Name its socket with --address, or take another --root.',
  });
}

async function failedStart(message: string, file: string, logged: number): Promise<NymphError> {
  const tail = await logTail(file, logged);
  const hint = tail === '' ? `It said nothing in ${file}.` : `The end of ${file}:\n${tail}`;
  return new NymphError('daemon', message, { hint });
}

async function logTail(file: string, logged: number): Promise<string> {
  await using log = await open(file, 'r');
  const { size } = await log.stat();
  const position = Math.max(logged, size - TAIL_BYTES);
  const buffer = Buffer.alloc(Math.max(0, size - position));
  const { bytesRead } = await log.read(buffer, 0, buffer.length, position);
  const lines = buffer
    .toString('utf8', 0, bytesRead)
    .split('\n')
    .filter((line) => line.trim() !== '');
  return lines.slice(-TAIL_LINES).map(readable).join('\n');
}

/** The log has JSON lines, and plain ones if the daemon died before it had a log. */
function readable(line: string): string {
  try {
    return textLine(line, false).trimEnd();
  } catch {
    return line;
  }
}
