/** The start-up job: which files of an image name those that are read after them. It goes beside the mount: nobody waits for it. */
import { readFileSync } from 'node:fs';
import { openErofs } from '../erofs/super-block.ts';
import { indexStartupFiles, type StartupFiles } from '../formats/rafs/startup-files.ts';
import type { JobResult } from '../threads/job.ts';

export interface StartupFilesRequest {
  /** Path. */
  bootstrap: string;
}

export function run({ bootstrap }: StartupFilesRequest): JobResult<StartupFiles> {
  return { output: indexStartupFiles(openErofs(readFileSync(bootstrap))) };
}
