import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { NymphError } from '../src/errors.ts';
import type { OciDigest } from '../src/image/image.ts';
import type { Repository, Source } from '../src/sources/source.ts';

/** What the suite needs of an implementation. */
export interface SuiteSubject {
  repository: Repository;
  /** A large object (at least 1 MiB) and its bytes. */
  large: { digest: OciDigest; bytes: Uint8Array };
  /** An object that `get` gives, with its true digest. */
  small: { digest: OciDigest; bytes: Uint8Array };
  /** What `resolve` gives. */
  manifest: { digest: OciDigest; bytes?: Uint8Array };
  close(): Promise<void>;
}

const ABSENT: OciDigest = `sha256:${'0123456789abcdef'.repeat(4)}`;

/** What the promises about ranges need. */
export interface RangeSubject {
  /** An object of at least 1 MiB. */
  source: Source;
  bytes: Uint8Array;
  /** Opens one that does not exist. */
  absent(size?: number): Source;
  close(): Promise<void>;
}

/** Runs the promises of `Source` against an implementation. */
export function rangeSuite(name: string, start: () => Promise<RangeSubject>): void {
  describe(`range promises: ${name}`, () => {
    let subject: RangeSubject;
    before(async () => {
      subject = await start();
    });
    after(() => subject?.close());
    rangeTests(() => subject);
  });
}

/** Runs the promises of `src/sources/source.ts` against an implementation. */
export function sourceSuite(name: string, start: () => Promise<SuiteSubject>): void {
  describe(`source promises: ${name}`, () => {
    let subject: SuiteSubject;
    let ranges: RangeSubject;
    const never = new AbortController().signal;

    before(async () => {
      subject = await start();
      const { repository, large } = subject;
      ranges = {
        source: repository.open({ digest: large.digest, size: large.bytes.length }),
        bytes: large.bytes,
        absent: (size) => repository.open({ digest: ABSENT, size }),
        close: async () => {},
      };
    });
    after(() => subject?.close());
    rangeTests(() => ranges);

    test('get gives a whole object, verified', async () => {
      const { digest, bytes } = subject.small;
      const got = await subject.repository.get({ digest, size: bytes.length }, bytes.length, never);
      assert.deepEqual(Buffer.from(got), Buffer.from(bytes));
    });

    test('get refuses a wrong size, a wrong digest and more than its limit', async () => {
      const { digest, bytes } = subject.small;
      const { repository } = subject;
      await assert.rejects(repository.get({ digest, size: bytes.length + 1 }, 1 << 30, never), NymphError);
      await assert.rejects(repository.get({ digest, size: bytes.length - 1 }, 1 << 30, never), NymphError);
      await assert.rejects(
        repository.get({ digest, size: bytes.length }, bytes.length - 1, never),
        known({ code: 'corrupt' }),
      );
      await assert.rejects(repository.get({ digest: ABSENT, size: bytes.length }, 1 << 30, never), NymphError);
      await assert.rejects(
        repository.get({ digest, size: bytes.length }, 1 << 30, AbortSignal.abort()),
        known({ code: 'cancelled' }),
      );
    });

    test('resolve gives the manifest with its digest', async () => {
      const { descriptor, bytes } = await subject.repository.resolve(never);
      assert.equal(descriptor.digest, subject.manifest.digest);
      assert.equal(descriptor.size, bytes.length);
      assert.equal(descriptor.digest, `sha256:${createHash('sha256').update(bytes).digest('hex')}`);
      assert.equal(descriptor.mediaType, 'application/vnd.oci.image.manifest.v1+json');
      if (subject.manifest.bytes) assert.deepEqual(Buffer.from(bytes), Buffer.from(subject.manifest.bytes));
    });

    test('a manifest is found by digest; another is not', async () => {
      const { bytes } = await subject.repository.manifest(subject.manifest.digest, never);
      assert.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, subject.manifest.digest);
      await assert.rejects(subject.repository.manifest(ABSENT, never), known({ code: 'not-found' }));
    });

    test('a closed repository does not keep the process', async () => {
      assert.equal(await subject.repository.close(), undefined);
    });
  });
}

function rangeTests(subject: () => RangeSubject): void {
  const never = new AbortController().signal;
  const source = () => subject().source;
  const size = () => subject().bytes.length;

  test('a range gives exactly its bytes', async () => {
    const end = size();
    const ranges = [
      [0, 1],
      [0, end],
      [1, 4095],
      [4096, 65_536],
      [end - 1, 1],
      [end - 70_001, 70_001],
      [12_345, 1],
      [end >> 1, 300_000],
    ];
    for (const [offset, length] of ranges) {
      const bytes = await collect(await source().read(offset, length, never));
      assert.equal(bytes.length, length);
      assert.ok(bytes.equals(subject().bytes.subarray(offset, offset + length)), `bytes at ${offset}`);
    }
  });

  test('an empty range gives nothing', async () => {
    assert.equal((await collect(await source().read(10, 0, never))).length, 0);
  });

  test('ranges that are read at once do not mix', async () => {
    const reads = Array.from({ length: 40 }, async (_, i) => {
      const offset = Math.floor((i * (size() - 30_000)) / 40);
      const bytes = await collect(await source().read(offset, 30_000, never));
      assert.ok(bytes.equals(subject().bytes.subarray(offset, offset + 30_000)), `read ${i}`);
    });
    await Promise.all(reads);
  });

  test('bytes behind the end are an error, not retryable', async () => {
    for (const [offset, length] of [
      [size(), 1],
      [size() - 10, 11],
      [size() + 1_000_000, 10],
    ])
      await assert.rejects(
        async () => collect(await source().read(offset, length, never)),
        known({ retryable: false }),
      );
  });

  test('an object that does not exist is not found', async () => {
    const absent = subject().absent();
    await assert.rejects(absent.read(0, 10, never), known({ code: 'not-found', retryable: false }));
  });

  test('opening makes no request', () => {
    assert.equal(subject().absent(5).size, 5);
  });

  test('an aborted signal ends reading with `cancelled`', async () => {
    await assert.rejects(source().read(0, 10, AbortSignal.abort()), known({ code: 'cancelled' }));
    const controller = new AbortController();
    const stream = (await source().read(0, size(), controller.signal))[Symbol.asyncIterator]();
    await stream.next();
    controller.abort();
    await assert.rejects(
      async () => {
        while (!(await stream.next()).done);
      },
      known({ code: 'cancelled' }),
    );
  });

  test('a reader may stop early, and the next read is right', async () => {
    for (let i = 0; i < 20; i++) {
      for await (const _ of await source().read(0, size(), never)) break;
    }
    const bytes = await collect(await source().read(100, 1000, never));
    assert.ok(bytes.equals(subject().bytes.subarray(100, 1100)));
  });
}

/** All bytes of a stream. */
export async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** For `assert.rejects`: a NymphError with these properties; strings are also matched against RegExps. */
export function known(expected: {
  code?: string;
  retryable?: boolean;
  message?: RegExp;
  hint?: RegExp;
  retryAfter?: number;
}) {
  return (error: unknown): true => {
    assert.ok(error instanceof NymphError, `not a NymphError: ${error}`);
    for (const [key, value] of Object.entries(expected)) {
      const actual: unknown = error[key as 'code'];
      if (value instanceof RegExp) assert.match(String(actual), value);
      else assert.equal(actual, value, `${key} of ${error.code}: ${error.message}`);
    }
    return true;
  };
}
