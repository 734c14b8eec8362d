/** The imports job: what Python modules import, from their bytes. */
import { type ImportStatement, readImports } from '../formats/python/imports.ts';
import type { JobResult } from '../threads/job.ts';

export function run(files: Uint8Array[]): JobResult<ImportStatement[][]> {
  return { output: files.map(readImports) };
}
