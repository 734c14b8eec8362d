import { createHash, type Hash, hash } from 'node:crypto';
import type { OciDigest } from '../image/image.ts';

const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** True for `sha256:<64 lower-case hex>`, the one digest form that we take (OCI image-spec, "Digests"). Safe in paths. */
export function isDigest(text: unknown): text is OciDigest {
  return typeof text === 'string' && DIGEST.test(text);
}

/** The 64 hex characters of a digest. */
export function digestHex(digest: OciDigest): string {
  return digest.slice('sha256:'.length);
}

export function sha256Digest(bytes: Uint8Array): OciDigest {
  return `sha256:${hash('sha256', bytes, 'hex')}`;
}

/** A digest in the making, for bytes that come in pieces: no long pause for a large object. */
export function startDigest(): { update(bytes: Uint8Array): void; digest(): OciDigest } {
  const state: Hash = createHash('sha256');
  return { update: (bytes) => void state.update(bytes), digest: () => `sha256:${state.digest('hex')}` };
}
