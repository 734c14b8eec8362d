import type { OciDigest } from '../image/image.ts';
import type { Descriptor, Manifest } from './source.ts';

/**
 * Where images are put: the writing side of a {@link Repository}. Promises of every implementation:
 *  - A blob is whole or not there. What is there already is not sent again.
 *  - After a cut, sending goes on where it ended, if the other side knows how; else it begins anew. Both with pauses, a
 *    few times, then the error says so.
 *  - An aborted `signal` ends the call soon with code `cancelled`.
 */
export interface Target {
  /** In full form, without secrets: `registry.example:5000/app:nydus`. */
  readonly reference: string;
  readonly kind: 'registry' | 'layout';
  /** @returns how the blob came to be there */
  put(blob: BlobToPut, signal: AbortSignal): Promise<'present' | 'mounted' | 'sent'>;
  /**
   * Puts a manifest or index, whose blobs and manifests must be there. One with a `subject` can be found from that
   * (distribution-spec "Listing Referrers").
   * @param tag without one it is known by its digest only
   */
  putManifest(manifest: Manifest, options: { tag?: string; subject?: OciDigest }, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export interface BlobToPut {
  digest: OciDigest;
  /** Bytes. */
  size: number;
  /** The content from `offset` on; asked for again where sending has to go on. */
  read(offset: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
  /** A file that is the content: a target on the same file system takes it over by a link. */
  file?: string;
  /** Repository of the same registry that has it. */
  from?: string;
  /** Told now and then: bytes that were sent. */
  progress?(bytes: number): void;
}

/** Content in memory. */
export function bytesToPut(descriptor: Pick<Descriptor, 'digest' | 'size'>, bytes: Uint8Array): BlobToPut {
  const { digest, size } = descriptor;
  async function* rest(offset: number): AsyncGenerator<Uint8Array> {
    yield bytes.subarray(offset);
  }
  return { digest, size, read: async (offset) => rest(offset) };
}

/** The tag under which registries without the referrers API keep who refers to a manifest. */
export function referrersTag(digest: OciDigest): string {
  return digest.replace(':', '-');
}
