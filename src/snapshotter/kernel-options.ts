import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';

/** Synchronous: for start-up. @returns options that every overlay needs on this kernel */
export function overlayOptions(): string[] {
  const options: string[] = [];
  // Layers are lower directories of many overlays at once, which an index would refuse.
  if (existsSync('/sys/module/overlay/parameters/index')) options.push('index=off');
  if (needsUserXattr(readFileSync('/proc/self/uid_map', 'latin1'), release())) options.push('userxattr');
  return options;
}

/** In a user namespace `trusted.*` attributes cannot be set; since Linux 5.11 overlayfs can do with `user.*`. */
export function needsUserXattr(uidMap: string, kernel: string): boolean {
  const whole = /^\s*0\s+0\s+4294967295\s*$/.test(uidMap);
  const [major, minor] = kernel.split('.').map(Number);
  return !whole && (major > 5 || (major === 5 && minor >= 11));
}
