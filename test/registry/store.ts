import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** OCI layouts, by the name of the repository that each is served as. */
export interface Store {
  /** Digest and media type of a tag or digest; `undefined` if there is none. */
  manifest(name: string, tagOrDigest: string): Promise<StoredManifest | undefined>;
  /** Path and size of a blob. */
  blob(name: string, digest: string): Promise<{ path: string; size: number } | undefined>;
  tags(name: string): Promise<string[] | undefined>;
}

export interface StoredManifest {
  digest: string;
  mediaType: string;
  bytes: Buffer;
}

interface IndexEntry {
  digest: string;
  mediaType: string;
  annotations?: Record<string, string>;
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const REF_NAME = 'org.opencontainers.image.ref.name';

export function openStore(layouts: Record<string, string>): Store {
  const entries = async (name: string): Promise<IndexEntry[] | undefined> => {
    if (!Object.hasOwn(layouts, name)) return undefined;
    // A repository that nothing was pushed to yet.
    const index = await readFile(join(layouts[name], 'index.json'), 'utf8').catch(() => '{"manifests":[]}');
    return JSON.parse(index).manifests;
  };
  const pathOf = (name: string, digest: string) =>
    Object.hasOwn(layouts, name) && DIGEST.test(digest)
      ? join(layouts[name], 'blobs/sha256', digest.slice('sha256:'.length))
      : undefined;

  return {
    async manifest(name, tagOrDigest) {
      const known = await entries(name);
      const isDigest = DIGEST.test(tagOrDigest);
      const entry = known?.find((item) =>
        isDigest ? item.digest === tagOrDigest : item.annotations?.[REF_NAME] === tagOrDigest,
      );
      const digest = entry?.digest ?? (isDigest ? tagOrDigest : undefined);
      const path = digest && pathOf(name, digest);
      if (!path) return undefined;
      const bytes = await readFile(path).catch(() => undefined);
      if (!bytes) return undefined;
      const mediaType = entry?.mediaType ?? JSON.parse(bytes.toString()).mediaType;
      return { digest, mediaType: mediaType ?? 'application/vnd.oci.image.manifest.v1+json', bytes };
    },
    async blob(name, digest) {
      const path = pathOf(name, digest);
      const stats = path ? await stat(path).catch(() => undefined) : undefined;
      return path && stats?.isFile() ? { path, size: stats.size } : undefined;
    },
    async tags(name) {
      return (await entries(name))?.map((entry) => entry.annotations?.[REF_NAME]).filter((tag) => tag !== undefined);
    },
  };
}
