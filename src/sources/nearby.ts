import { setImmediate as othersTurn } from 'node:timers/promises';
import type { OciDigest } from '../image/image.ts';
import { OCI_MANIFEST, parseJsonObject } from './descriptor.ts';
import { startDigest } from './digest.ts';
import type { Manifest, Repository } from './source.ts';

/** Somebody on this machine who may have small objects already; `undefined` for those that it has not. */
export type Nearby = (digest: OciDigest, signal: AbortSignal) => Promise<Uint8Array | undefined>;

/** Bytes that are hashed between turns of others: readers wait for this thread. */
const SLICE = 1 << 20;

/**
 * A repository whose manifests and small objects are looked for near by first. What comes from there is verified, and
 * what is wrong or absent comes from the repository.
 * @param pinned the digest by which the reference names its manifest, if it does
 */
export function withNearby(from: Repository, nearby: Nearby, pinned: OciDigest | undefined): Repository {
  async function verified(digest: OciDigest, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const bytes = await nearby(digest, signal);
    return bytes !== undefined && (await digestInTurns(bytes)) === digest ? bytes : undefined;
  }

  async function manifest(digest: OciDigest, signal: AbortSignal): Promise<Manifest> {
    const bytes = await verified(digest, signal);
    if (bytes === undefined) return from.manifest(digest, signal);
    const { mediaType } = parseJsonObject(bytes, `manifest ${digest}`);
    const named = typeof mediaType === 'string' ? mediaType : OCI_MANIFEST;
    return { descriptor: { mediaType: named, digest, size: bytes.length }, bytes };
  }

  return {
    ...from,
    manifest,
    resolve: (signal) => (pinned === undefined ? from.resolve(signal) : manifest(pinned, signal)),
    async get(descriptor, limit, signal) {
      const bytes = descriptor.size <= limit ? await verified(descriptor.digest, signal) : undefined;
      return bytes ?? from.get(descriptor, limit, signal);
    },
  };
}

async function digestInTurns(bytes: Uint8Array): Promise<OciDigest> {
  const hash = startDigest();
  for (let at = 0; at < bytes.length; at += SLICE) {
    if (at > 0) await othersTurn();
    hash.update(bytes.subarray(at, at + SLICE));
  }
  return hash.digest();
}
