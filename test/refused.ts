import assert from 'node:assert/strict';
import { NymphError } from '../src/errors.ts';

/** @returns the NymphError that a promise rejects with; anything else fails the test */
export async function refused(promise: Promise<unknown>): Promise<NymphError> {
  const error = await promise.then(
    () => assert.fail('it should have failed'),
    (reason) => reason,
  );
  assert.ok(error instanceof NymphError, String(error?.stack));
  return error;
}
