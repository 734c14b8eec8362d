import { CATALOGUE_VERSION } from '../cache/catalogue.ts';
import { LEDGER_VERSION } from '../cache/ledger-file.ts';
import { READY_VERSION } from '../cache/ready-file.ts';
import { SNAPSHOTS_VERSION } from '../snapshotter/store.ts';

/** Versions of what is kept on disk. Those who have the same can follow each other, in both directions. */
export type Formats = Record<string, number>;

export const FORMATS: Formats = {
  catalogue: CATALOGUE_VERSION,
  ledger: LEDGER_VERSION,
  ready: READY_VERSION,
  snapshots: SNAPSHOTS_VERSION,
};

/** @returns what differs, for a person, or undefined */
export function differentFormats(ours: Formats, theirs: Formats): string | undefined {
  const names = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].filter(
    (name) => ours[name] !== theirs[name],
  );
  if (names.length === 0) return undefined;
  return names.map((name) => `${name} ${ours[name] ?? 'none'} and ${theirs[name] ?? 'none'}`).join(', ');
}
