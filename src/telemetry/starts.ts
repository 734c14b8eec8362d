import type { FileSystem } from '../fuse/driver.ts';

/**
 * Traces of starts: from the pull of an image, if there was one, over its mount to the first read of its bytes. Where no
 * exporter is set, all of this does nothing.
 */
export interface StartTraces {
  /** A pull or a mount begins. */
  begin(kind: 'pull' | 'mount', reference: string): StartTrace;
  /** The same file system; the first read of an image after its mount is told of. */
  watch(fileSystem: FileSystem): FileSystem;
  close(): Promise<void>;
}

export interface StartTrace {
  /** What is being done now: each stage is a span, up to the next one. */
  stage(name: string): void;
  /** It was done. @param inodes of the blobs whose first read is waited for; none of a mount that was there already */
  done(image: StartedImage, inodes: readonly number[]): void;
  failed(error: unknown): void;
}

export interface StartedImage {
  digest: string;
  format: string;
  /** Uncompressed bytes. */
  size: number;
  /** Of a mount. */
  kind?: string;
  directory?: string;
}

const NOTHING: StartTrace = { stage: () => {}, done: () => {}, failed: () => {} };

/** Where no exporter is set. */
export const NO_TRACES: StartTraces = {
  begin: () => NOTHING,
  watch: (fileSystem) => fileSystem,
  close: async () => {},
};
