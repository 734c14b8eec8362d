/** Ordinary images, made of files by `tar`. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

/**
 * Writes an OCI layout with an image of one layer (tar, not compressed).
 * @param files content by path
 * @returns the digest of its manifest
 */
export function makePlainImage(layout: string, tag: string, files: Record<string, string>): string {
  const layer = makeLayer((tree) => {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      writeFileSync(join(tree, path), text);
    }
  });
  return writeLayout(layout, tag, [{ tar: layer, stored: layer, type: '' }]);
}

/**
 * The same with several layers, gzipped.
 * @param command what it runs by default
 * @param layers fill an empty directory each; whiteouts are files `.wh.<name>` and `.wh..wh..opq` as in the tar
 */
export function makeLayeredImage(
  layout: string,
  tag: string,
  layers: ((tree: string) => void)[],
  command: string[] = ['/bin/sh'],
): string {
  return writeLayout(layout, tag, layers.map(gzippedLayer), command);
}

/**
 * Two images in one layout that have their first layers in common, to the byte.
 * @param own the other layers, by tag
 */
export function makeImagesOnOneBase(
  layout: string,
  base: ((tree: string) => void)[],
  own: Record<string, ((tree: string) => void)[]>,
  command: string[],
): void {
  const common = base.map(gzippedLayer);
  for (const [tag, layers] of Object.entries(own))
    writeLayout(layout, tag, [...common, ...layers.map(gzippedLayer)], command);
}

/** Copies programs of this machine and the libraries they load to the same places below `tree`. */
export function copyPrograms(tree: string, ...programs: string[]): void {
  for (const program of programs) {
    const { stdout } = spawnSync('ldd', [program], { encoding: 'utf8' });
    for (const path of [program, ...(stdout.match(/\/\S+(?= \()/g) ?? [])]) {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      cpSync(realpathSync(path), join(tree, path));
    }
  }
}

function gzippedLayer(fill: (tree: string) => void): PlainLayer {
  const tar = makeLayer(fill);
  return { tar, stored: gzipSync(tar, { level: 1 }), type: '+gzip' };
}

function makeLayer(fill: (tree: string) => void): Buffer {
  const tree = mkdtempSync(join(tmpdir(), 'nymph-plain-'));
  try {
    fill(tree);
    const options = ['--format=pax', '--xattrs', '--xattrs-include=*', '--numeric-owner'];
    const tar = spawnSync('tar', ['-cf', '-', '-C', tree, ...options, '.'], { maxBuffer: 1 << 30 });
    if (tar.status !== 0) throw new Error(`tar: ${tar.stderr}`);
    return tar.stdout;
  } finally {
    rmSync(tree, { recursive: true });
  }
}

interface PlainLayer {
  tar: Buffer;
  stored: Buffer;
  /** What its media type ends with. */
  type: string;
}

function writeLayout(layout: string, tag: string, layers: PlainLayer[], command = ['/bin/sh']): string {
  const blobs = join(layout, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const digestOf = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const put = (mediaType: string, bytes: Buffer) => {
    const digest = digestOf(bytes);
    writeFileSync(join(blobs, digest.slice('sha256:'.length)), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const json = (mediaType: string, value: object) => put(mediaType, Buffer.from(JSON.stringify(value)));
  const descriptors = layers.map(({ stored, type }) => put(`application/vnd.oci.image.layer.v1.tar${type}`, stored));
  const config = json('application/vnd.oci.image.config.v1+json', {
    architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch as string] ?? process.arch,
    os: 'linux',
    config: { Env: ['PATH=/usr/bin:/bin'], Cmd: command },
    rootfs: { type: 'layers', diff_ids: layers.map(({ tar }) => digestOf(tar)) },
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = json(mediaType, { schemaVersion: 2, mediaType, config, layers: descriptors });
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const index = join(layout, 'index.json');
  const others = existsSync(index) ? JSON.parse(readFileSync(index, 'utf8')).manifests : [];
  writeFileSync(index, JSON.stringify({ schemaVersion: 2, manifests: [...others, { ...manifest, annotations }] }));
  return manifest.digest;
}
