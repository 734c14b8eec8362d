import { createCipheriv, createHash } from 'node:crypto';

/** A file of a repository in a hub, as the test servers have it. */
export interface HubFile {
  path: string;
  bytes: Buffer;
  /** Where its bytes are: in git itself, in LFS, or in Xet, which looks like LFS to who does not speak it. */
  kind: 'git' | 'lfs' | 'xet';
}

/** A repository: commits by their ids, and branches. */
export interface HubRepository {
  commits: Record<string, HubFile[]>;
  branches: Record<string, string>;
  /** Nobody gets it without the token of the hub. */
  private?: boolean;
  /** Its listing is for all, its files for who has accepted the conditions: nobody does. */
  gated?: boolean;
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The id of a git blob. */
export function gitId(bytes: Uint8Array): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

/** What git holds of an LFS file (git-lfs, "docs/spec.md"). */
export function pointerOf(bytes: Uint8Array): Buffer {
  return Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(bytes)}\nsize ${bytes.length}\n`);
}

/** Bytes that look like nothing, the same for the same seed. */
export function noise(seed: string, size: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/** A small model as hubs have them: two shards in LFS and Xet, the rest in git, one name that must be encoded. */
export function modelFiles(seed: string): HubFile[] {
  return [
    { path: '.gitattributes', bytes: Buffer.from('*.safetensors filter=lfs diff=lfs merge=lfs -text\n'), kind: 'git' },
    { path: 'README.md', bytes: Buffer.from(`# ${seed}\n`), kind: 'git' },
    { path: 'config.json', bytes: Buffer.from(JSON.stringify({ seed })), kind: 'git' },
    { path: 'empty.txt', bytes: Buffer.alloc(0), kind: 'git' },
    { path: 'model-00001-of-00002.safetensors', bytes: noise(`${seed} 1`, 3_000_001), kind: 'lfs' },
    { path: 'model-00002-of-00002.safetensors', bytes: noise(`${seed} 2`, 1_048_576), kind: 'xet' },
    { path: 'onnx/größe & 100%.json', bytes: noise(`${seed} 3`, 70_000), kind: 'git' },
  ];
}
