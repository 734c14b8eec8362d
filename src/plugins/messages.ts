import type { ErrorCode } from '../errors.ts';
import type { Description, DriverAnswer, DriverRequest, Listing, Plugin } from './plugin.ts';

/** What the main thread and the thread of a driver say to each other. */

/** With which the thread begins. */
export interface DriverData extends Omit<Plugin, 'description' | 'sha256'> {
  directory: string;
}

export type DriverCall =
  | { call: 'describe' }
  | { call: 'start'; scheme: string; reference: string }
  | { call: 'next'; answer: DriverAnswer };

export type DriverReply =
  | { reply: 'ready' }
  | { reply: 'description'; description: Description }
  | { reply: 'ask'; request: DriverRequest }
  | { reply: 'listing'; listing: Listing }
  | { reply: 'failed'; code: ErrorCode; message: string; hint?: string };
