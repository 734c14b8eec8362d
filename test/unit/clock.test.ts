/** The clock that people set is asked what time it is, and not how long something took. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PROJECT } from '../fixtures.ts';

/** Files that want the time of day, with what for. */
const TIME_OF_DAY: Record<string, string> = {
  'cache/blob-store.ts': 'last use, kept over restarts; it never goes back',
  'cache/open.ts': 'numbers and names that were not used before',
  'containerd/connection.ts': 'deadlines of gRPC are times of day',
  'containerd/session.ts': 'a lease of containerd ends at a time of day',
  'daemon/live.ts': 'told to people',
  'fetch/statistics.ts': 'told to people',
  'mount/mounts.ts': 'told to people, kept over restarts',
  'snapshotter/clock.ts': 'told to containerd',
  'sources/dragonfly/client.ts': 'deadlines of gRPC are times of day',
  'sources/http/errors.ts': 'Retry-After may be a date',
  'sources/object-storage/object.ts': 'signatures have a date',
};

test('durations are not measured by the clock that people set: nothing hangs when it is set back', () => {
  const source = join(PROJECT, 'src');
  const users = readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && /\bDate\.now\b/.test(readFileSync(join(source, path), 'utf8')))
    .filter((path) => !(path in TIME_OF_DAY));
  assert.deepEqual(users, []);
});
