import { createHash } from 'node:crypto';
import type { TarMember } from './members.ts';

/** SHA-256 of all that a tar was found to hold: the same where its headers say the same. */
export function indexDigest(members: readonly TarMember[]): string {
  const hash = createHash('sha256');
  for (const member of members) hash.update(JSON.stringify(member)).update('\n');
  return hash.digest('hex');
}
