/** Runs the tests: `node test/run.ts [unit|integration|fault]…`. Ends with the runner's summary; the status is its verdict. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT } from './fixtures.ts';

const kinds = process.argv.length > 2 ? process.argv.slice(2) : ['unit', 'integration', 'fault'];
const files = kinds.flatMap((kind) => {
  const folder = join(PROJECT, 'test', kind);
  if (!existsSync(folder)) throw new Error(`there is no test/${kind}`);
  return readdirSync(folder)
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join(folder, name));
});
// One file after another where mounts are involved: they measure and kill, and the machine may have two cores.
const { status } = spawnSync(
  process.execPath,
  ['--disable-warning=ExperimentalWarning', '--test', '--test-concurrency=2', '--test-timeout=600000', ...files],
  { stdio: 'inherit', cwd: PROJECT },
);
process.exit(status ?? 1);
