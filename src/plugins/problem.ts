import { type ErrorCode, NymphError } from '../errors.ts';
import { lied } from './check.ts';

const CODES: Record<string, ErrorCode> = {
  reference: 'usage',
  'not-found': 'not-found',
  denied: 'denied',
  answer: 'source',
};

/** The error for what a driver says of a reference (`problem` in `hub.wit`). Its words are shown short and printable. */
export function problemError(driver: string, problem: unknown): NymphError {
  const { tag, val } = (problem ?? {}) as { tag?: unknown; val?: unknown };
  if (typeof tag !== 'string' || !Object.hasOwn(CODES, tag) || typeof val !== 'string')
    return lied(driver, 'its error', undefined, 'is none of those that there are');
  const words = val
    .replace(/[^\x20-\x7e\u00a0-\uffff]/g, ' ')
    .slice(0, 300)
    .toWellFormed();
  return new NymphError(CODES[tag], `${driver} says: ${words}`);
}
