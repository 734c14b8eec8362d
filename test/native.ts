import type { NymphError } from '../src/errors.ts';
import { loadNativeModule } from '../src/fuse/native-module.ts';
import type { CompareOptions } from './manifest.ts';

/** Why the driver fuse-native cannot be tested here, or `false`: for the `skip` of tests. */
export async function noNativeDriver(): Promise<string | false> {
  try {
    await loadNativeModule();
    return false;
  } catch (error) {
    return `${(error as NymphError).message} ${(error as NymphError).hint}`;
  }
}

/** What fuse-native cannot tell: parts of a millisecond, names that are not UTF-8. */
export const NATIVE_CANNOT: NonNullable<CompareOptions['exceptions']> = [
  { path: '*', field: 'mtimeNanoseconds' },
  {
    path: JSON.stringify({ base64: Buffer.from('/names/latin1-\xe9\xff', 'latin1').toString('base64') }),
    field: 'presence',
  },
];
