import koffi from 'koffi';

/** linux/prctl.h */
const PR_SET_DUMPABLE = 4;

/**
 * Keeps the memory of this process out of core dumps, also of those that are piped to a program, whatever the limits: it
 * holds credentials. Another user's processes cannot look into it either.
 * Only for root: in `/proc`, others would lose their own process.
 */
export function refuseCoreDumps(): void {
  if (process.getuid?.() !== 0) return;
  koffi.load('libc.so.6').func('int prctl(int option, unsigned long value)')(PR_SET_DUMPABLE, 0);
}
