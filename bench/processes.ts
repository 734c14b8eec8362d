import { type ChildProcess, spawn } from 'node:child_process';

export interface Finished {
  /** ms from the start to the first byte on standard output; undefined if there was none. */
  firstByte: number | undefined;
  /** ms from the start to the end. */
  total: number;
  out: string;
}

/**
 * Runs a program to its end, without a shell; `signal` ends it early.
 * @throws Error with what it said on standard error if its status is not 0
 */
export function run(
  program: string,
  args: readonly string[],
  options: { onFirstByte?: () => void; signal?: AbortSignal } = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const abort = (): boolean => child.kill('SIGTERM');
    options.signal?.addEventListener('abort', abort, { once: true });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let firstByte: number | undefined;
    child.stdout.on('data', (data: Buffer) => {
      if (firstByte === undefined) {
        firstByte = performance.now() - begun;
        options.onFirstByte?.();
      }
      out.push(data);
    });
    child.stderr.on('data', (data: Buffer) => err.push(data));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const total = performance.now() - begun;
      options.signal?.removeEventListener('abort', abort);
      if (code === 0) resolve({ firstByte, total, out: Buffer.concat(out).toString() });
      else reject(new Error(`${program} ${args.join(' ')}: ${code ?? signal}\n${Buffer.concat(err)}`.trimEnd()));
    });
  });
}

/** Runs a line in `sh`, output dropped. @returns ms */
export async function shell(line: string): Promise<number> {
  const { total } = await run('sh', ['-c', `{ ${line}\n} >/dev/null`]);
  return total;
}

/** Ends a process with SIGTERM; resolves when it is gone. */
export function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
}
