/** A tree as it is installed, out of this checkout. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cannotMount, run } from './daemon.ts';
import { PROJECT } from './fixtures.ts';

/** Why there can be none here, or `false`. */
export function cannotStage(): string | false {
  if (!existsSync(join(PROJECT, 'dist', '.built'))) return 'needs `make build`: what is installed is compiled';
  return cannotMount();
}

/** @param directory which must not exist */
export async function stage(directory: string): Promise<void> {
  const { status, err } = await run(process.execPath, [join(PROJECT, 'deploy', 'stage.ts'), directory]);
  assert.equal(status, 0, err);
}
