import { corrupt } from '../../errors.ts';

const MOST_BYTES = 4096;
const MOST_NAME = 255;

/**
 * The names of a path out of a manifest or a listing, which may be anything: relative, `/` between names.
 * @param structure what is read, for errors
 * @throws NymphError `corrupt` for a path that leads out of the tree or that no file can have: absolute, empty, `..`, NUL,
 *   a drive or share of Windows, names over 255 or paths over 4,096 bytes
 */
export function namesOf(path: string, structure: string): string[] {
  const refuse = (why: string) => corrupt(structure, 'path', 0, `${JSON.stringify(path.slice(0, 200))} ${why}`);
  if (path.includes('\0')) throw refuse('contains NUL');
  if (path.startsWith('/')) throw refuse('is absolute');
  if (/^[A-Za-z]:[\\/]|^\\\\/.test(path)) throw refuse('is a path of Windows');
  if (!path.isWellFormed()) throw refuse('is no text');
  if (Buffer.byteLength(path) > MOST_BYTES) throw refuse(`has more than ${MOST_BYTES} bytes`);
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.length === 0) throw refuse('is empty');
  if (names.includes('..')) throw refuse('leads upwards');
  if (names.some((name) => Buffer.byteLength(name) > MOST_NAME)) throw refuse(`has a name of over ${MOST_NAME} bytes`);
  return names;
}
