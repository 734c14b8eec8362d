/** What happened. */
export interface Tally {
  operations: Record<string, number>;
  kills: Record<string, number>;
  /** Files whose checksum a container printed, all right unless they are in `wrong`. */
  outputs: number;
  wrong: string[];
  /** Failed operations by their reason, without what differs each time. */
  failures: Record<string, number>;
  /** Failures without a reason. */
  unexplained: string[];
  /** Reads that failed in containers whose FUSE connection was never lost. */
  lost: string[];
}

export const emptyTally = (): Tally => ({
  operations: {},
  kills: {},
  outputs: 0,
  wrong: [],
  failures: {},
  unexplained: [],
  lost: [],
});

export function count(of: Record<string, number>, name: string): void {
  of[name] = (of[name] ?? 0) + 1;
}

/** A message without digests, addresses, paths and numbers. */
export function kindOf(message: string): string {
  return message
    .replace(/sha256:[0-9a-f]+|[0-9a-f]{12,}/g, '…')
    .replace(/127\.0\.0\.1:\d+/g, 'HOST')
    .replace(/\/tmp\/[^\s":,]+/g, 'PATH')
    .replace(/\/data\/\w+|\/etc\/base\d+/g, 'FILE')
    .replace(/\d+/g, 'N')
    .replace(/\s+/g, ' ')
    .slice(0, 160);
}
