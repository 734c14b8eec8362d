import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountRequest, pruneRequest, pullRequest, verifyRequest } from '../../src/daemon/requests.ts';

const NO_OBJECTS = [null, 5, 'text', true, ['reference'], undefined];

test('what a client sends becomes a request', () => {
  const options = { platform: 'linux/arm64', prefetch: 'all', via: 'fuse' } as const;
  const mount = { reference: 'a/b:c', directory: '/mnt/a', options };
  assert.deepEqual(mountRequest({ ...mount, unknown: 1 }), mount);
  assert.deepEqual(pullRequest({ reference: 'a/b' }), { reference: 'a/b', platform: undefined });
  assert.deepEqual(verifyRequest({ target: '/m', cachedOnly: true }).cachedOnly, true);
  assert.deepEqual(pruneRequest({ target: 0 }), { target: 0 });
  assert.deepEqual(pruneRequest({}), {});
  assert.deepEqual(pruneRequest({ force: true, more: 1 }), { force: true });
  assert.throws(() => pruneRequest({ force: 'yes' }), { code: 'usage' });
});

test('what is of the wrong type is a usage error, and evicts nothing', () => {
  for (const read of [mountRequest, pullRequest, verifyRequest, pruneRequest])
    for (const body of NO_OBJECTS) assert.throws(() => read(body), { code: 'usage' }, JSON.stringify(body));
  for (const target of ['abc', '5', -1, 0.5, Number.NaN, 2 ** 60, null, []])
    assert.throws(() => pruneRequest({ target }), { code: 'usage' }, String(target));
  for (const wrong of [
    { reference: 5 },
    { reference: '' },
    { directory: 'relative' },
    { directory: '/a\0b' },
    { directory: ['/a'] },
    { options: 'x' },
    { options: null },
    { options: { platform: 5 } },
    { options: { prefetch: 'everything' } },
    { options: { via: 'nfs' } },
  ])
    assert.throws(() => mountRequest({ reference: 'a/b', directory: '/mnt', ...wrong }), { code: 'usage' });
  assert.throws(() => verifyRequest({ target: '/m', cachedOnly: 'yes' }), { code: 'usage' });
});
