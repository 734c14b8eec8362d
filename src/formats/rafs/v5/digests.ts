import { DIGEST_SIZE, digestOf } from '../../../codec/digest.ts';
import { S_IFLNK, S_IFMT, S_IFREG } from '../../../erofs/inode.ts';
import { corrupt } from '../../../errors.ts';
import type { DigestAlgorithm } from '../../../image/image.ts';
import { CHUNK_RECORD_SIZE } from '../super-block.ts';
import type { InodeV5 } from './inode.ts';

/**
 * The digest tree of RAFS v5: a file has the digest of its chunks' digests, a symlink of its target, a directory of its
 * children's digests in their order; other files have the digest of nothing.
 */
export interface DigestCheck {
  /** Checks a file that is no directory. @throws NymphError `corrupt` */
  ofFile(inode: InodeV5): void;
  /** Checks a directory, once all its children were added in order. */
  ofDirectory(inode: InodeV5): { add(child: InodeV5): void; check(): void };
}

export function createDigestCheck(bytes: Buffer, algorithm: DigestAlgorithm): DigestCheck {
  let scratch = Buffer.alloc(64 * DIGEST_SIZE);

  /** Room for the digests of one inode, which are given up with the next. */
  const room = (count: number): Buffer => {
    if (scratch.length < count * DIGEST_SIZE) scratch = Buffer.alloc(count * DIGEST_SIZE * 2);
    return scratch.subarray(0, count * DIGEST_SIZE);
  };

  function compare(inode: InodeV5, content: Uint8Array): void {
    if (bytes.subarray(inode.at, inode.at + DIGEST_SIZE).equals(digestOf(algorithm, content))) return;
    throw corrupt('RAFS v5 inode', 'digest', inode.at, `inode ${inode.index} has another ${algorithm} digest`);
  }

  return {
    ofFile(inode) {
      const type = inode.mode & S_IFMT;
      if (type === S_IFREG) {
        const digests = room(inode.childCount);
        for (let k = 0; k < inode.childCount; k++) {
          const at = inode.chunksAt + k * CHUNK_RECORD_SIZE;
          bytes.copy(digests, k * DIGEST_SIZE, at, at + DIGEST_SIZE);
        }
        compare(inode, digests);
      } else {
        const size = type === S_IFLNK ? inode.targetSize : 0;
        compare(inode, bytes.subarray(inode.targetAt, inode.targetAt + size));
      }
    },
    ofDirectory(inode) {
      const digests = Buffer.alloc(inode.childCount * DIGEST_SIZE);
      let count = 0;
      return {
        add(child) {
          bytes.copy(digests, count++ * DIGEST_SIZE, child.at, child.at + DIGEST_SIZE);
        },
        check: () => compare(inode, digests),
      };
    },
  };
}
