/** The `chunks` file of cache entries, alone and put together with another. */
import { checkTables } from '../../../src/cache/ledger.ts';
import { decodeLedger, encodeLedger } from '../../../src/cache/ledger-file.ts';
import { mergeLedgers } from '../../../src/cache/merge-ledgers.ts';
import { digestOf } from '../../../src/codec/digest.ts';
import { exampleLedgers } from '../example-ledgers.ts';
import { joinParts, splitParts } from '../parts.ts';
import { ensure, type Target } from '../target.ts';

export const target: Target = {
  name: 'ledger',
  seeds() {
    const encoded = exampleLedgers().map((ledger, i) => encodeLedger({ ino: 2 ** 20 + i, variant: 1, ledger }));
    return encoded.flatMap((one, i) => [joinParts(one, encoded[(i + 1) % encoded.length]), joinParts(one, one)]);
  },
  limit: 16 << 10,
  repair(input) {
    for (const part of splitParts(input, 2))
      if (part.length > 32) part.set(digestOf('blake3', part.subarray(0, -32)), part.length - 32);
  },
  run(input) {
    const [one, other] = splitParts(input, 2).map((part) => decodeLedger(Uint8Array.from(part)));
    const again = Buffer.from(encodeLedger(one));
    ensure(
      again.equals(Buffer.from(encodeLedger(decodeLedger(Uint8Array.from(again))))),
      'it is not written as it was read',
    );
    const merged = mergeLedgers(one.ledger, other.ledger);
    if (merged === undefined) return 'they contradict each other';
    checkTables(merged);
    ensure(merged.chunks.count >= Math.max(one.ledger.chunks.count, other.ledger.chunks.count), 'chunks were lost');
    ensure(mergeLedgers(merged, other.ledger) === merged, 'the same added again adds something');
    return `together ${merged.frames.count > one.ledger.frames.count}`;
  },
};
