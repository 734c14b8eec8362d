/** Manifest rows: one JSON object a line for each inode of a tree. */
import { readFileSync } from 'node:fs';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';

/** Text where the bytes are UTF-8, else the bytes. Names and symlink targets are bytes. */
export type Bytes = string | { base64: string };

export interface Row {
  path: Bytes;
  /** `0o100644`: type and permission bits. */
  mode: string;
  uid: number;
  gid: number;
  /** Seconds since 1970, cut towards zero; absent for the root. */
  mtime?: number;
  /** 0…999999999, the rest of `mtime` counted upwards from its floor. Optional: upstream manifests have none. */
  mtimeNanoseconds?: number;
  /** Absent for directories. */
  nlink?: number;
  size?: number;
  /** Hex, at least 32 digits: a shorter one is the start of the digest. */
  sha256?: string;
  target?: Bytes;
  /** `[major, minor]` */
  rdev?: [number, number];
  /** Values in base64. */
  xattrs?: Record<string, string>;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @returns the bytes as a manifest shows them */
export function show(bytes: Buffer): Bytes {
  try {
    return utf8.decode(bytes);
  } catch {
    return { base64: bytes.toString('base64') };
  }
}

/** @returns the bytes that a manifest shows */
export function bytesOf(shown: Bytes): Buffer {
  return typeof shown === 'string' ? Buffer.from(shown) : Buffer.from(shown.base64, 'base64');
}

/** Reads a manifest: `.jsonl`, `.jsonl.gz` or `.jsonl.zst`. */
export function readManifest(path: string): Row[] {
  const raw = readFileSync(path);
  const text = path.endsWith('.gz') ? gunzipSync(raw) : path.endsWith('.zst') ? zstdDecompressSync(raw) : raw;
  const rows: Row[] = [];
  for (const line of text.toString('utf8').split('\n')) if (line !== '') rows.push(JSON.parse(line) as Row);
  return rows;
}
