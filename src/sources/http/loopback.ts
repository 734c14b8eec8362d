import { isIP } from 'node:net';

/** True for this machine's own names: containers' tools speak plain HTTP to them by default. */
export function isLoopback(hostname: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, '');
  return name === 'localhost' || (isIP(name) === 4 && name.startsWith('127.')) || name === '::1';
}
