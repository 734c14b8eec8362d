import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Regular files below a directory that are not empty, by their paths in it. */
export function filesBelow(root: string, inside = ''): { path: string; size: number }[] {
  return readdirSync(join(root, inside), { withFileTypes: true }).flatMap((entry) => {
    const path = join(inside, entry.name);
    if (entry.isDirectory()) return filesBelow(root, path);
    const size = entry.isFile() ? lstatSync(join(root, path)).size : 0;
    return size > 0 ? [{ path, size }] : [];
  });
}
