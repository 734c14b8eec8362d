import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS } from '../daemon/supervision.ts';
import type { Context } from './context.ts';

/** Program and arguments of the daemon of this version, built or not as this file is. */
export function daemonCommand({ globals }: Context): string[] {
  const script = fileURLToPath(new URL(`../daemon/main${extname(import.meta.url)}`, import.meta.url));
  const { config, root, address, driver } = globals;
  const options = { '--config': config, '--root': root, '--address': address, '--driver': driver };
  const args = Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
  return [process.execPath, ...NODE_FLAGS, script, ...args];
}
