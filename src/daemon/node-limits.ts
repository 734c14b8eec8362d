import { readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';

/** What this process may use of the node: its cgroup's limits, or all that the machine has. */
export interface NodeLimits {
  /** Processors, at least 1; a share of one counts as one. */
  cpus: number;
  /** Bytes of memory. */
  memory: number;
  /** Of which of them a cgroup is the reason. */
  cgroup: ('cpus' | 'memory')[];
}

/** A controller's directory for this process. Version 1 has a tree for each controller, version 2 one for all. */
interface Place {
  version: 1 | 2;
  /** Where its tree is mounted. */
  mount: string;
  /** Below that. */
  path: string;
}

const NO_LIMIT = 2 ** 60;

/**
 * Reads the limits of the process's cgroup and of those above it (cgroups(7): the strictest counts). Node itself looks at
 * memory only, and at its own cgroup only. What cannot be read is no limit. Synchronous: for start-up.
 * @param root in place of `/`, for tests
 */
export function nodeLimits(root = '/', cpus = availableParallelism(), memory = totalmem()): NodeLimits {
  const read = (path: string): string => {
    try {
      return readFileSync(join(root, path), 'latin1');
    } catch {
      // A controller that is not there, or not mounted here, limits nothing.
      return '';
    }
  };
  const groups = read('/proc/self/cgroup');
  const mounts = read('/proc/self/mountinfo');
  const least = (controller: string, limit: (directory: string, version: 1 | 2) => number) =>
    Math.min(
      NO_LIMIT,
      ...placesOf(controller, groups, mounts).flatMap((place) =>
        upwards(place).map((directory) => limit(directory, place.version)),
      ),
    );
  const limitedCpus = Math.ceil(least('cpu', (directory, version) => cpuLimit(directory, version, read)));
  const limitedMemory = least('memory', (directory, version) => memoryLimit(directory, version, read));
  const cgroup: NodeLimits['cgroup'] = [];
  if (limitedCpus < cpus) cgroup.push('cpus');
  if (limitedMemory < memory) cgroup.push('memory');
  return { cpus: Math.max(1, Math.min(cpus, limitedCpus)), memory: Math.min(memory, limitedMemory), cgroup };
}

/** Of version 2 and of version 1, where both are there. */
function placesOf(controller: string, groups: string, mounts: string): Place[] {
  return groups.split('\n').flatMap((line): Place[] => {
    const match = /^(\d+):([^:]*):(.*)$/.exec(line);
    if (match === null) return [];
    const [, hierarchy, controllers, path] = match;
    const version = hierarchy === '0' && controllers === '' ? 2 : 1;
    if (version === 1 && !controllers.split(',').includes(controller)) return [];
    const mount = mountOf(version, controller, mounts);
    if (mount === undefined) return [];
    // In a container the tree may be mounted from the container's own cgroup on: /proc says where that is.
    const below = path === mount.root || path.startsWith(`${mount.root}/`) ? path.slice(mount.root.length) : path;
    return [{ version, mount: mount.directory, path: mount.root === '/' ? path : below }];
  });
}

/** proc_pid_mountinfo(5): id, parent, device, root, directory, options, optional fields, `-`, type, source, options. */
function mountOf(version: 1 | 2, controller: string, mounts: string): { root: string; directory: string } | undefined {
  for (const line of mounts.split('\n')) {
    const [before, after] = line.split(' - ');
    const [type, , options = ''] = after?.split(' ') ?? [];
    const [, , , root, directory] = before.split(' ');
    if (directory === undefined) continue;
    if (version === 2 ? type === 'cgroup2' : type === 'cgroup' && options.split(',').includes(controller))
      return { root, directory };
  }
  return undefined;
}

/** The directory and all above it, up to the mount. */
function upwards({ mount, path }: Place): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..');
  return Array.from({ length: parts.length + 1 }, (_, i) => join(mount, ...parts.slice(0, parts.length - i)));
}

function cpuLimit(directory: string, version: 1 | 2, read: (path: string) => string): number {
  const [quota, period] =
    version === 2
      ? read(join(directory, 'cpu.max')).trim().split(' ')
      : [read(join(directory, 'cpu.cfs_quota_us')), read(join(directory, 'cpu.cfs_period_us'))];
  const cpus = Number.parseInt(quota, 10) / Number.parseInt(period, 10);
  return cpus > 0 ? cpus : NO_LIMIT;
}

function memoryLimit(directory: string, version: 1 | 2, read: (path: string) => string): number {
  // Above memory.high a process is slowed down until it uses less: no better than a limit.
  const files = version === 2 ? ['memory.max', 'memory.high'] : ['memory.limit_in_bytes'];
  const limits = files.map((file) => Number.parseInt(read(join(directory, file)), 10));
  return Math.min(NO_LIMIT, ...limits.filter((limit) => limit > 0));
}
