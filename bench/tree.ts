/**
 * Makes what trials read: a tree on disk, its manifest, and a Nydus image of it in an OCI layout.
 *
 *   node bench/tree.ts DIR [--files 50000] [--big 1073741824] [--compressor zstd|lz4_block|none] [--chunk-size 1048576]
 *                          [--batch-size 0] [--prefetch-all] [--tag bench] [--seed 1]
 *
 * DIR/source: `small/dNNN/fNNNNN`, text of 0…8 KiB, and `big`, of which every fourth MiB does not compress.
 * DIR/manifest.jsonl; DIR/layout with the tag. Prints what it made as JSON. A source of the same shape is used again, so
 * images of one tree in several codecs cost only the building.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeOciLayout } from '../src/build/oci-layout.ts';
import { type BuildOptions, buildRafsV6 } from '../src/formats/rafs/write/build.ts';
import type { Compressor } from '../src/formats/rafs/write/compress.ts';
import { walkDirectory } from '../src/formats/rafs/write/directory.ts';
import { writeManifest } from '../test/manifest.ts';
import { makeBigFile, makeManyFiles } from '../test/tree.ts';

export interface TreeShape {
  /** Small files; 0 for none. */
  files: number;
  /** Bytes of the large file; 0 for none. */
  big: number;
  seed: number;
}

export interface BenchImage {
  source: string;
  manifest: string;
  layout: string;
  tag: string;
  /** Of the image's manifest. */
  digest: string;
  names: number;
  /** Bytes of the blobs' objects, and of their flat content. */
  stored: number;
  uncompressed: number;
  /** Seconds that the building of the image took. */
  seconds: number;
}

/** Makes the tree and its manifest, unless they are there. */
export function makeSource(directory: string, shape: TreeShape): { source: string; manifest: string } {
  const source = join(directory, 'source');
  const manifest = join(directory, 'manifest.jsonl');
  const stamp = join(directory, 'source.json');
  const wanted = JSON.stringify(shape);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return { source, manifest };
  rmSync(source, { recursive: true, force: true });
  mkdirSync(join(source, 'small'), { recursive: true });
  makeManyFiles(join(source, 'small'), { count: shape.files, seed: shape.seed });
  if (shape.big > 0) makeBigFile(join(source, 'big'), shape.big, shape.seed);
  const lines: string[] = [];
  writeManifest(source, (line) => lines.push(line));
  writeFileSync(manifest, lines.join(''));
  writeFileSync(stamp, wanted);
  return { source, manifest };
}

/** Makes the tree and an image of it. */
export async function makeBenchImage(
  directory: string,
  shape: TreeShape,
  options: Pick<BuildOptions, 'compressor' | 'chunkSize' | 'batchSize' | 'prefetch'> & { tag: string },
): Promise<BenchImage> {
  const { tag, ...build } = options;
  const { source, manifest } = makeSource(directory, shape);
  const layout = join(directory, 'layout');
  const start = performance.now();
  const image = await buildRafsV6(walkDirectory(source), {
    bootstrap: join(directory, `${tag}.boot`),
    blobs: join(layout, 'blobs', 'sha256'),
    ...build,
  });
  const { digest } = await writeOciLayout(layout, image, { tag });
  return {
    source,
    manifest,
    layout,
    tag,
    digest,
    names: image.names,
    stored: image.blobs.reduce((sum, blob) => sum + blob.size, 0),
    uncompressed: image.blobs.reduce((sum, blob) => sum + blob.uncompressedSize, 0),
    seconds: Number(((performance.now() - start) / 1000).toFixed(2)),
  };
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      files: { type: 'string', default: '50000' },
      big: { type: 'string', default: String(1 << 30) },
      compressor: { type: 'string', default: 'zstd' },
      'chunk-size': { type: 'string', default: String(1 << 20) },
      'batch-size': { type: 'string', default: '0' },
      'prefetch-all': { type: 'boolean', default: false },
      tag: { type: 'string', default: 'bench' },
      seed: { type: 'string', default: '1' },
    },
  });
  const [directory] = positionals;
  if (!directory || positionals.length > 1 || !['zstd', 'lz4_block', 'none'].includes(values.compressor))
    throw new Error('usage: tree.ts DIR [--files N] [--big BYTES] [--compressor zstd|lz4_block|none] …');
  mkdirSync(directory, { recursive: true });
  const image = await makeBenchImage(
    directory,
    { files: Number(values.files), big: Number(values.big), seed: Number(values.seed) },
    {
      compressor: values.compressor as Compressor,
      chunkSize: Number(values['chunk-size']),
      batchSize: Number(values['batch-size']),
      prefetch: values['prefetch-all'] ? 'all' : [],
      tag: values.tag,
    },
  );
  console.log(JSON.stringify(image, null, 2));
}

if (import.meta.main)
  main().catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 2;
  });
