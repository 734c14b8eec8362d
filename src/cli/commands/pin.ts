import { isDigest } from '../../sources/digest.ts';
import type { Context } from '../context.ts';
import { canonicalReference } from '../reference.ts';

/** `nymph pin` and `nymph unpin` */
export async function run(context: Context, name: string, pinned: boolean): Promise<undefined> {
  const client = await context.daemon();
  const image = await client.pin(isDigest(name) ? name : canonicalReference(name), pinned);
  context.print(image, () => `${image.reference} is ${image.pinned ? 'pinned' : 'not pinned'}`);
}
