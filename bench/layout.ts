import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

interface Entry {
  digest: string;
  annotations?: Record<string, string>;
}

/** Digest of the manifest under a tag of an OCI layout. */
export async function digestOf(layout: string, tag: string): Promise<string> {
  const { manifests } = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as { manifests: Entry[] };
  return manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag)!.digest;
}

/** The layers of that manifest; sizes in bytes. */
export async function layersOf(layout: string, tag: string): Promise<{ digest: string; size: number }[]> {
  const hex = (await digestOf(layout, tag)).slice('sha256:'.length);
  return JSON.parse(await readFile(join(layout, 'blobs', 'sha256', hex), 'utf8')).layers;
}
