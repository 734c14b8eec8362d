import { isAbsolute } from 'node:path';
import { NymphError } from '../errors.ts';
import type { UpgradeRequest } from './api.ts';
import { differentFormats, FORMATS, type Formats } from './formats.ts';
import type { SupervisorLink } from './supervisor-link.ts';

const MOST_ARGUMENTS = 64;
const MOST_LIMIT = 3_600_000;

/**
 * Has another program take this daemon's place; resolves when this one must end for it.
 * @throws NymphError `usage` for a body of another shape, `unsupported` if the other one keeps something else on the disk,
 * `precondition` if it cannot take over
 */
export async function handOver(body: unknown, supervisor: SupervisorLink): Promise<void> {
  const { command, limit, formats } = upgradeRequest(body);
  const different = differentFormats(FORMATS, formats);
  if (different !== undefined)
    throw new NymphError('unsupported', `the other version keeps its files in another format: ${different}`, {
      hint: 'There would be no way back. Stop this daemon and start the other one; see docs/install.md on formats.',
    });
  await supervisor.succeed(command, limit);
}

function upgradeRequest(body: unknown): UpgradeRequest {
  const { command, limit, formats } = (body ?? {}) as Record<string, unknown>;
  const isCommand =
    Array.isArray(command) &&
    command.length > 0 &&
    command.length <= MOST_ARGUMENTS &&
    command.every((word) => typeof word === 'string' && !word.includes('\0')) &&
    isAbsolute(command[0]);
  if (!isCommand) throw wrong('command must be a program by its path, and arguments');
  if (typeof limit !== 'number' || !(limit > 0 && limit <= MOST_LIMIT)) throw wrong('limit must be milliseconds');
  if (typeof formats !== 'object' || formats === null) throw wrong('formats must be an object');
  return { command, limit, formats: formats as Formats };
}

function wrong(what: string): NymphError {
  return new NymphError('usage', `the control API was asked wrongly: ${what}`);
}
