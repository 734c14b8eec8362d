import { formatReference, parseReference } from '../sources/reference.ts';

/**
 * A reference as the daemon must be given it: in full, with paths that do not depend on where it runs.
 * @throws NymphError `usage`
 */
export function canonicalReference(text: string): string {
  return formatReference(parseReference(text));
}
