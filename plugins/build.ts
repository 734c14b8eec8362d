/** `make plugins`: builds the drivers that come with nymph into `plugins/built/`. */
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { addBuiltIn } from '../src/plugins/store.ts';
import { componentize } from './componentize.ts';

await rm(new URL('built', import.meta.url), { recursive: true, force: true });
for (const driver of ['hf', 'modelscope'])
  await addBuiltIn(await componentize(fileURLToPath(new URL(`${driver}.ts`, import.meta.url))));
