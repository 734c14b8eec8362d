import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import { formatReference, parseReference } from '../sources/reference.ts';

/**
 * A reference as the daemon must be given it: in full, with paths that do not depend on where it runs.
 * @throws NymphError `usage`; also where a folder with an image is named like a repository of Docker Hub
 */
export function canonicalReference(text: string): string {
  const reference = parseReference(text);
  const folder = imageFolder(text);
  if (reference.kind === 'registry' && folder !== undefined)
    throw new NymphError('usage', `${text} is a folder here, and would be looked for on ${reference.host}`, {
      hint: `Write ${folder}:${text} for the folder, or ${formatReference(reference)} for the registry.`,
    });
  return formatReference(reference);
}

/** What kind of image a folder holds, if it holds one. */
function imageFolder(path: string): 'oci' | 'rafs' | undefined {
  if (existsSync(join(path, 'oci-layout'))) return 'oci';
  return existsSync(join(path, 'blobs')) && existsSync(join(path, 'bootstrap')) ? 'rafs' : undefined;
}
