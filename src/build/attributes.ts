import { canHoldXattr } from '../erofs/write-xattr.ts';
import type { SourceEntry } from '../formats/rafs/write/source.ts';

/** Attributes that were left out, because EROFS has no place for them. */
export interface LeftOut {
  count: number;
  /** Name of the first. */
  first?: string;
}

/** Passes entries on without the attributes that an image cannot hold (`system.nfs4_acl`, `btrfs.compression`), and counts those. */
export async function* holdableAttributes<E extends SourceEntry>(
  entries: AsyncIterable<E> | Iterable<E>,
  leftOut: LeftOut,
): AsyncGenerator<E> {
  for await (const entry of entries) {
    const kept = entry.xattrs?.filter(({ name, value }) => {
      if (canHoldXattr({ name: Buffer.from(name), value })) return true;
      leftOut.count++;
      leftOut.first ??= name.toString();
      return false;
    });
    yield kept?.length === entry.xattrs?.length ? entry : { ...entry, xattrs: kept };
  }
}
