import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { OciDigest } from '../image/image.ts';

/** Names below a cache's root. Nothing that comes from outside becomes a path before it passed one of these patterns. */
export const BLOB_ID = /^[0-9a-f]{64}$/;
export const OCI_DIGEST = /^sha256:[0-9a-f]{64}$/;
const KEY = /^([0-9a-f]{64})(?:~([1-9][0-9]?))?$/;

/** Images that contradict each other about one blob, at most. */
export const MAX_VARIANTS = 64;

export interface Layout {
  readonly root: string;
  readonly lock: string;
  readonly catalogue: string;
  readonly reserve: string;
  readonly blobs: string;
  readonly images: string;
  readonly traces: string;
  /** Entries and images that are being made. */
  readonly temporary: string;
  readonly trash: string;
}

export function layoutOf(root: string): Layout {
  return {
    root,
    lock: join(root, 'lock'),
    catalogue: join(root, 'catalogue.db'),
    reserve: join(root, 'reserve'),
    blobs: join(root, 'blobs'),
    images: join(root, 'images'),
    traces: join(root, 'traces'),
    temporary: join(root, 'tmp'),
    trash: join(root, 'trash'),
  };
}

/** `<id>` for variant 1, `<id>~N` for the others. */
export function keyOf(id: string, variant: number): string {
  return variant === 1 ? id : `${id}~${variant}`;
}

export function parseKey(key: string): { id: string; variant: number } | undefined {
  const match = KEY.exec(key);
  if (!match) return undefined;
  const variant = Number(match[2] ?? 1);
  return keyOf(match[1], variant) === key && variant <= MAX_VARIANTS ? { id: match[1], variant } : undefined;
}

export function imageDirectory(layout: Layout, digest: OciDigest): string {
  return join(layout.images, digest.slice('sha256:'.length));
}

/** Bytes that files take on disk; absent ones take none. */
export async function bytesOnDisk(...paths: string[]): Promise<number> {
  let bytes = 0;
  for (const path of paths) {
    try {
      bytes += (await stat(path)).blocks * 512;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return bytes;
}
