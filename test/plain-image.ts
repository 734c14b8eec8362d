/** Ordinary images, made of files by `tar`. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * Writes an OCI layout with an image of one layer (tar, not compressed).
 * @param files content by path
 * @returns the digest of its manifest
 */
export function makePlainImage(layout: string, tag: string, files: Record<string, string>): string {
  const tree = mkdtempSync(join(tmpdir(), 'nymph-plain-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      writeFileSync(join(tree, path), text);
    }
    const tar = spawnSync('tar', ['-cf', '-', '-C', tree, '--owner=0', '--group=0', '.'], { maxBuffer: 1 << 30 });
    if (tar.status !== 0) throw new Error(`tar: ${tar.stderr}`);
    return writeLayout(layout, tag, tar.stdout);
  } finally {
    rmSync(tree, { recursive: true });
  }
}

function writeLayout(layout: string, tag: string, layer: Buffer): string {
  const blobs = join(layout, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (mediaType: string, bytes: Buffer) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (mediaType: string, value: object) => put(mediaType, Buffer.from(JSON.stringify(value)));
  const layerDescriptor = put('application/vnd.oci.image.layer.v1.tar', layer);
  const config = json('application/vnd.oci.image.config.v1+json', {
    architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch as string] ?? process.arch,
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [layerDescriptor.digest] },
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = json(mediaType, { schemaVersion: 2, mediaType, config, layers: [layerDescriptor] });
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
  return manifest.digest;
}
