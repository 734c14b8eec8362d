import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ServiceError } from '@grpc/grpc-js';
import type { SwarmFile } from '../swarm.ts';
import { STATUS } from './status.ts';

/**
 * dfdaemon's own files, read where they lie: it links a task's file to a path of ours before anything has come, and writes
 * each piece in its place. A blob that this node's dfdaemon has comes in a twentieth of the time that its bytes take
 * through a socket. Where both have no file system in common, or dfdaemon is in a container that does not show it, they
 * come through the socket.
 */
export interface Links {
  /** Where the next link is to be made; `undefined` if none can be. */
  path(): Promise<string | undefined>;
  /** Opens a link and takes its name away: what dfdaemon drops is to be gone when it is closed. @throws LinkError */
  open(path: string, size: number): Promise<SwarmFile>;
  /** A link that was asked for has failed: from now on there are none. */
  refuse(path: string): Promise<void>;
  /** Another dfdaemon is there. */
  reset(): void;
}

/** There is no link where dfdaemon says that it has made one. */
export class LinkError extends Error {}

/** @param directory for their names, made when it is needed; nobody else's */
export function createLinks(directory: string): Links {
  let refused = false;
  let prepared: Promise<boolean> | undefined;

  return {
    async path() {
      prepared ??= prepare(directory);
      const possible = await prepared;
      return possible && !refused ? join(directory, randomUUID()) : undefined;
    },
    async open(path, size) {
      const handle = await open(path, 'r').catch((error: Error) => {
        throw new LinkError(error.message);
      });
      await rm(path, { force: true });
      const found = await handle.stat();
      if (found.isFile() && found.size === size) return { fd: handle.fd, close: () => handle.close() };
      await handle.close();
      throw new LinkError(`${path} has ${found.size} bytes instead of ${size}`);
    },
    async refuse(path) {
      refused = true;
      await rm(path, { force: true });
    },
    reset() {
      refused = false;
    },
  };
}

/** Links that a daemon has left that was killed hold dfdaemon's disk. */
async function prepare(directory: string): Promise<boolean> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(directory)) await rm(join(directory, name));
    return true;
  } catch {
    // A full disk, or a directory that is not ours: bytes come through the socket.
    return false;
  }
}

/** What link(2) says where there can be no link: EPERM, ENOENT, EACCES, EEXIST, EXDEV, ENOTDIR, EINVAL, EROFS, EMLINK, ELOOP, EOPNOTSUPP. */
const NO_LINK = new Set([1, 2, 13, 17, 18, 20, 22, 30, 31, 40, 95]);

/** Whether a download failed because of its link; dfdaemon passes on what the system said. */
export function isLinkFailure(failure: unknown): boolean {
  if (failure instanceof LinkError) return true;
  const { code, details = '' } = failure as Partial<ServiceError>;
  const said = /\(os error (\d+)\)/.exec(details)?.[1];
  return code === STATUS.internal && said !== undefined && NO_LINK.has(Number(said));
}
