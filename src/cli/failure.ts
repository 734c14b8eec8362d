import { type ErrorCode, NymphError } from '../errors.ts';
import { type ExitCode, exitStatus } from '../exit-status.ts';

/**
 * Says on standard error what failed and what to do, with `json` also on standard output as one document.
 * @param verbose adds the chain of causes, and the stack of what should not have happened
 * @returns the exit status
 */
export function reportFailure(error: unknown, json: boolean, verbose: boolean): ExitCode {
  const code: ErrorCode = error instanceof NymphError ? error.code : 'internal';
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof NymphError ? error.hint : 'This is a fault of nymph; --verbose shows where.';
  const lines = [`nymph: ${safe(message)}`];
  if (hint !== undefined)
    lines.push(
      ...safe(hint)
        .split('\n')
        .map((line) => `  ${line}`),
    );
  if (verbose) {
    lines.push(...causeLines(error));
    if (code === 'internal' && error instanceof Error && error.stack !== undefined) lines.push(safe(error.stack));
  }
  process.stderr.write(`${lines.join('\n')}\n`);
  if (json) process.stdout.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
  return exitStatus(error);
}

function causeLines(error: unknown): string[] {
  const lines: string[] = [];
  let cause = error instanceof Error ? error.cause : undefined;
  // A chain can be a ring; eight links say enough.
  while (cause !== undefined && cause !== null && lines.length < 8) {
    lines.push(`  caused by: ${safe(cause instanceof Error ? cause.message || cause.name : String(cause))}`);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return lines;
}

/** Messages may quote what a registry said; line breaks stay, other control characters do not. */
function safe(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, '\ufffd');
}
