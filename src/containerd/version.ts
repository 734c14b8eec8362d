import { execFile } from 'node:child_process';
import { NymphError } from '../errors.ts';

/** Of containerd or nerdctl. */
export interface ProgramVersion {
  readonly text: string;
  readonly major: number;
  readonly minor: number;
}

/** `2.1.9`, `v1.7.24`, `1.6.20~ds1`; also within a line such as `nerdctl version 2.2.0`. */
export function parseVersion(text: string): ProgramVersion | undefined {
  const match = /(?:^|[^\d.])v?(\d{1,4})\.(\d{1,4})(?:\.\d+)?/.exec(text);
  if (!match) return undefined;
  return { text: match[0].replace(/^[^\d]+/, ''), major: Number(match[1]), minor: Number(match[2]) };
}

export function atLeast(version: ProgramVersion, major: number, minor: number): boolean {
  return version.major > major || (version.major === major && version.minor >= minor);
}

/** Runs `program --version`. @returns `undefined` if it is not installed */
export async function installedVersion(program: string): Promise<ProgramVersion | undefined> {
  const output = await outputOf(program, ['--version']).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return output === undefined ? undefined : parseVersion(output.replace(/github\.com\S*/, ''));
}

/**
 * The configuration that containerd would have with a file: defaults, imports and migrations included.
 * @throws NymphError `config` with containerd's own words
 */
export async function dumpConfig(file: string): Promise<string> {
  try {
    return await outputOf('containerd', ['--config', file, 'config', 'dump']);
  } catch (error) {
    const words = (error as Error).message.trim().split('\n').slice(-3).join('\n');
    throw new NymphError('config', `containerd does not accept ${file}: ${words}`, { cause: error });
  }
}

/** Standard output of a program. @throws what it said on standard error, or the system's error */
export function outputOf(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: 30_000, maxBuffer: 16 << 20 }, (error, output, said) => {
      if (!error) resolve(output);
      else if (typeof error.code === 'number' && said.trim() !== '') reject(new Error(said, { cause: error }));
      else reject(error);
    });
  });
}
