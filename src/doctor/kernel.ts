import { access, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import { buildRafsV6 } from '../formats/rafs/write/build.ts';
import { walkDirectory } from '../formats/rafs/write/directory.ts';
import { mountErofs, unmount } from '../mount/erofs.ts';
import { type Finding, findings } from './finding.ts';

const { ok, warning, problem } = findings('kernel');

/**
 * Whether the kernel can do what nymph asks of it. EROFS on files is tried, with an image of a few bytes.
 * @param place an existing directory on the file system of the root: the kernel refuses files of some
 */
export async function checkKernel(place: string, isRoot: boolean): Promise<Finding[]> {
  const known = await readFile('/proc/filesystems', 'utf8');
  const has = (type: string) => known.split('\n').some((line) => line.split('\t')[1] === type);
  const found: Finding[] = [];
  const missing = (type: string) => `Load the module: \`modprobe ${type}\`.`;
  if (!(await isThere('/dev/fuse'))) found.push(problem(`Linux ${release()} has no /dev/fuse`, missing('fuse')));
  else found.push(ok(`Linux ${release()}, with FUSE`));
  if (!has('overlay')) found.push(warning('overlayfs is not loaded; containers need it', missing('overlay')));
  found.push(isRoot ? await tryErofs(place) : warning('EROFS was not tried', 'Run it as root.'));
  return found;
}

async function tryErofs(place: string): Promise<Finding> {
  const directory = await mkdtemp(join(place, '.nymph-doctor-'));
  const [tree, mountpoint] = [join(directory, 'tree'), join(directory, 'mnt')];
  try {
    await mkdir(tree);
    await mkdir(mountpoint);
    const bootstrap = join(directory, 'bootstrap');
    await buildRafsV6(walkDirectory(tree), { bootstrap, blobs: join(directory, 'blobs') });
    await mountErofs({ bootstrap, devices: [], directory: mountpoint });
    await unmount(mountpoint);
    return ok(`EROFS mounts images from files in ${place}`);
  } catch (error) {
    if (!(error instanceof NymphError)) throw error;
    return warning(`${error.message}: images are served as FUSE trees, which costs more CPU`, error.hint);
  } finally {
    // What is still mounted must not be removed with what is in it.
    await unmount(mountpoint, true);
    await rm(directory, { recursive: true, force: true });
  }
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
