import type { ErrorCode } from '../errors.ts';
import type { TarMember } from '../formats/tar/members.ts';
import type { OciDigest, StreamCodec } from '../image/image.ts';

/** What the thread that unpacks layers and the main thread say to each other: one layer after another. */
export type ToUnpackThread =
  | {
      type: 'begin';
      codec: StreamCodec;
      digest: OciDigest;
      /** Of the layer, for errors. */
      name: string;
      /** Where what it unpacks to is put; without, nowhere. */
      fd?: number;
    }
  /** The next bytes of the layer. */
  | { type: 'piece'; bytes: Uint8Array }
  | { type: 'end' };

export type FromUnpackThread =
  /** So many bytes of pieces were used: more may come. */
  | { type: 'taken'; bytes: number }
  | {
      type: 'done';
      size: number;
      digests: Uint8Array;
      members: TarMember[];
      /** All of it is where it was to be put; else why not. */
      kept: boolean;
      reason?: string;
    }
  | { type: 'failed'; code: ErrorCode; message: string; hint?: string; retryable: boolean };
