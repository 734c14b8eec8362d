/** The program job: where the files are that a command line names. */
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { type Erofs, openErofs } from '../erofs/super-block.ts';
import { dataAt } from '../formats/rafs/data-range.ts';
import type { BlobRange } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';
import type { Program } from './program.ts';

export interface ProgramRequest {
  /** Path. */
  bootstrap: string;
  program: Program;
}

/** Arguments that are looked at: wrappers (`tini -- python3 app.py`) name the program, and that its script. */
const MOST_ARGUMENTS = 8;
/** Directories that commands are looked for in. */
const MOST_DIRECTORIES = 16;
const EXECUTABLE = 0o111;

/** @returns the first bytes and sizes of the files, in the order of the arguments, each once */
export function run({ bootstrap, program }: ProgramRequest): JobResult<BlobRange[]> {
  const erofs = openErofs(readFileSync(bootstrap));
  const found = new Map<string, BlobRange>();
  for (const argument of program.args.slice(0, MOST_ARGUMENTS)) {
    const range = fileOf(erofs, argument, program);
    if (range !== undefined) found.set(`${range.blob}:${range.offset}`, range);
  }
  return { output: [...found.values()] };
}

function fileOf(erofs: Erofs, argument: string, { path, cwd }: Program): BlobRange | undefined {
  for (const directory of path.slice(0, argument.includes('/') ? 0 : MOST_DIRECTORIES)) {
    const command = dataAt(erofs, posix.resolve('/', directory, argument), EXECUTABLE);
    if (command !== undefined) return command;
  }
  return dataAt(erofs, posix.resolve('/', cwd, argument));
}
