import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The version in `package.json`, which is beside `src/` and `dist/`. */
export const VERSION: string = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;

/** The directory of this version: what holds `src/` or `dist/`. */
export const INSTALLED: string = dirname(dirname(fileURLToPath(import.meta.url)));
