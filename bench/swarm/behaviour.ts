import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Behaviour } from './simulate.ts';

/** What record.ts found, on the machine that `docs/benchmarks.md` names. */
export const RECORDED = fileURLToPath(new URL('dfdaemon-pieces.json', import.meta.url));

export function recordedBehaviour(): Behaviour {
  return JSON.parse(readFileSync(RECORDED, 'utf8')) as Behaviour;
}
