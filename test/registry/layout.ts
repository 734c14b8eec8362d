import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { OciDigest } from '../../src/image/image.ts';

/** A layout that a test made: one image `app:latest` of two layers. */
export interface MadeLayout {
  path: string;
  blobs: { digest: OciDigest; bytes: Buffer }[];
  manifest: { digest: OciDigest; bytes: Buffer };
}

/**
 * Writes an OCI layout with an image of made-up layers.
 * @param sizes bytes of each layer; the content depends on size and place only
 */
export async function makeLayout(directory: string, sizes: readonly number[], tag = 'latest'): Promise<MadeLayout> {
  await mkdir(join(directory, 'blobs/sha256'), { recursive: true });
  const put = async (bytes: Buffer) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(directory, 'blobs/sha256', hex), bytes);
    return { digest: `sha256:${hex}` as OciDigest, bytes };
  };
  const blobs = [];
  for (const [i, size] of sizes.entries()) blobs.push(await put(madeBytes(size, i + 1)));
  const config = await put(
    Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } })),
  );
  const descriptor = (mediaType: string, blob: { digest: string; bytes: Buffer }) => ({
    mediaType,
    digest: blob.digest,
    size: blob.bytes.length,
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await put(
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType,
        config: descriptor('application/vnd.oci.image.config.v1+json', config),
        layers: blobs.map((blob) => descriptor('application/vnd.oci.image.layer.v1.tar', blob)),
      }),
    ),
  );
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  const index = { schemaVersion: 2, manifests: [{ ...descriptor(mediaType, manifest), annotations }] };
  await writeFile(join(directory, 'index.json'), JSON.stringify(index));
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return { path: directory, blobs, manifest };
}

/** Bytes without a period that a wrong range could hide in (xorshift32). */
export function madeBytes(size: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = (seed * 0x9e3779b9) | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return Buffer.from(words.buffer, 0, size);
}
