import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, NymphError } from '../../src/errors.ts';
import { toGrpcError } from '../../src/snapshotter/grpc-errors.ts';
import { needsUserXattr } from '../../src/snapshotter/kernel-options.ts';
import { changedLabels, requestLabels } from '../../src/snapshotter/labels.ts';
import { mappedOwner, mountsOf, type Seen } from '../../src/snapshotter/overlay.ts';
import {
  LABEL_GID_MAP,
  LABEL_LAZY,
  LABEL_TARGET,
  LABEL_UID_MAP,
  LABEL_VOLATILE,
} from '../../src/snapshotter/snapshotter.ts';

const fs = (id: number) => `/var/lib/nymph/snapshots/${id}/fs`;
const seen = (more: Partial<Seen>): Seen => ({
  kind: 'active',
  labels: {},
  upper: fs(9),
  work: '/var/lib/nymph/snapshots/9/work',
  lowers: [],
  options: ['index=off'],
  ...more,
});
const UPPER = [`workdir=/var/lib/nymph/snapshots/9/work`, `upperdir=${fs(9)}`];

test('a snapshot on nothing is a bind mount of its own directory', () => {
  assert.deepEqual(mountsOf(seen({})), [{ type: 'bind', source: fs(9), options: ['rw', 'rbind'] }]);
  assert.deepEqual(mountsOf(seen({ kind: 'view' })), [{ type: 'bind', source: fs(9), options: ['ro', 'rbind'] }]);
});

test('a view of one layer is a bind mount of that layer', () => {
  assert.deepEqual(mountsOf(seen({ kind: 'view', lowers: [fs(3)] })), [
    { type: 'bind', source: fs(3), options: ['ro', 'rbind'] },
  ]);
});

test('everything else is an overlay, the nearest layer first; without an upper directory it cannot be written', () => {
  const lowers = [fs(3), fs(1)];
  const overlay = (...options: string[]) => [{ type: 'overlay', source: 'overlay', options }];
  const below = `lowerdir=${fs(3)}:${fs(1)}`;
  assert.deepEqual(mountsOf(seen({ lowers })), overlay('index=off', ...UPPER, below));
  assert.deepEqual(mountsOf(seen({ kind: 'view', lowers })), overlay('index=off', below));
  assert.deepEqual(mountsOf(seen({ lowers: [fs(3)] })), overlay('index=off', ...UPPER, `lowerdir=${fs(3)}`));
});

test('volatile is for containers, never for a layer that will be committed, nor for what is not written', () => {
  const labels = { [LABEL_VOLATILE]: '' };
  const options = (more: Partial<Seen>) => mountsOf(seen({ labels, lowers: [fs(1)], ...more }))[0].options;
  assert.ok(options({}).includes('volatile'));
  assert.ok(!options({ labels: { ...labels, [LABEL_TARGET]: 'sha256:1' } }).includes('volatile'));
  assert.ok(!options({ kind: 'view', lowers: [fs(1), fs(2)] }).includes('volatile'));
});

test('mapped ids: options first of all, and the host’s id of the container’s root', () => {
  const labels = { [LABEL_UID_MAP]: '1:7:5,0:100000:65536', [LABEL_GID_MAP]: '0:200000:65536' };
  const maps = ['uidmap=1:7:5,0:100000:65536', 'gidmap=0:200000:65536'];
  assert.deepEqual(mountsOf(seen({ labels, lowers: [fs(1)] }))[0].options.slice(0, 3), [...maps, 'index=off']);
  assert.deepEqual(mountsOf(seen({ labels }))[0].options, [...maps, 'rw', 'rbind']);
  assert.deepEqual(mappedOwner(labels), { uid: 100000, gid: 200000 });
  assert.equal(mappedOwner({}), undefined);
  for (const wrong of [
    '',
    '0',
    '0:1',
    '0:1:0',
    '1:1:1',
    '0:4294967290:10',
    '0:-1:5',
    'a:b:c',
    '0:1:5,',
    '0:99999999999:1',
  ])
    assert.throws(() => mappedOwner({ ...labels, [LABEL_GID_MAP]: wrong }), { code: 'usage' }, wrong);
  assert.throws(() => mappedOwner({ [LABEL_UID_MAP]: '0:1:5' }), { code: 'usage' });
});

test('a lazy image with mapped ids is named so that containerd copies its mount; with layers on top it is refused', () => {
  const labels = { [LABEL_UID_MAP]: '0:1:5', [LABEL_GID_MAP]: '0:1:5' };
  const image = '/var/lib/nymph/snapshots/images/abc';
  const lowerdir = (more: Partial<Seen>) => mountsOf(seen({ labels, lazy: true, ...more }))[0].options.at(-1);
  assert.equal(lowerdir({ lowers: [image] }), `lowerdir=${image}/.`);
  assert.equal(lowerdir({ lowers: [image], labels: {} }), `lowerdir=${image}`);
  assert.equal(lowerdir({ lowers: [fs(3), image], labels: {} }), `lowerdir=${fs(3)}:${image}`);
  assert.equal(lowerdir({ lowers: [fs(3), fs(1)], lazy: false }), `lowerdir=${fs(3)}:${fs(1)}`);
  assert.throws(() => lowerdir({ lowers: [fs(3), image] }), { code: 'unsupported' });
});

test('more layers than options have room for are refused; containerd’s way to shorten them is reckoned with', () => {
  const layers = (count: number, root = '/var/lib/nymph/snapshots') =>
    Array.from({ length: count }, (_, i) => `${root}/${1000 + i}/fs`);
  assert.equal(mountsOf(seen({ lowers: layers(128) })).length, 1);
  assert.equal(mountsOf(seen({ lowers: layers(450) })).length, 1);
  assert.throws(() => mountsOf(seen({ lowers: layers(600) })), { code: 'unsupported', message: /600 layers/ });
  // Nothing in common with the others: containerd cannot shorten any.
  assert.throws(() => mountsOf(seen({ lowers: [...layers(128), '/run/nymph/fs'] })), { code: 'unsupported' });
});

test('user.* attributes in user namespaces, where the kernel can', () => {
  const host = '         0          0 4294967295\n';
  const mapped = '         0     100000      65536\n';
  assert.equal(needsUserXattr(host, '6.12.0'), false);
  assert.equal(needsUserXattr(mapped, '6.12.0-1-amd64'), true);
  assert.equal(needsUserXattr(mapped, '5.11.0'), true);
  assert.equal(needsUserXattr(mapped, '5.10.200'), false);
  assert.equal(needsUserXattr(mapped, '4.19.0'), false);
});

test('labels: masks, deletion, and what is ours', () => {
  const before = { a: '1', b: '2', 'c.d': '3' };
  assert.deepEqual(changedLabels(before, { x: 'y' }, [], false), { x: 'y' });
  assert.deepEqual(changedLabels(before, { x: 'y' }, ['labels'], false), { x: 'y' });
  assert.deepEqual(changedLabels(before, { a: '9', b: '', z: '1' }, ['labels.a', 'labels.b', 'labels.c.d'], false), {
    a: '9',
  });
  for (const path of ['parent', 'name', 'labelsx', 'kind', ''])
    assert.throws(() => changedLabels(before, {}, [path], false), { code: 'usage' }, path);
  const lazy = { [LABEL_TARGET]: 'sha256:1', [LABEL_LAZY]: 'true', x: 'y' };
  assert.deepEqual(changedLabels(lazy, {}, [], true), { [LABEL_TARGET]: 'sha256:1', [LABEL_LAZY]: 'true' });
  assert.deepEqual(changedLabels(lazy, {}, [`labels.${LABEL_TARGET}`, `labels.${LABEL_LAZY}`], true), lazy);
  assert.deepEqual(
    changedLabels({ [LABEL_LAZY]: 'false: x', [LABEL_TARGET]: 'y' }, { [LABEL_LAZY]: 'true' }, [], false),
    {
      [LABEL_LAZY]: 'false: x',
    },
  );
  assert.deepEqual(requestLabels({ [LABEL_LAZY]: 'true', a: '' }), { a: '' });
  assert.deepEqual(requestLabels({ k: 'v'.repeat(4095) }), { k: 'v'.repeat(4095) });
  assert.throws(() => requestLabels({ k: 'é'.repeat(2048) }), { code: 'usage' });
});

test('errors leave as containerd’s classes, whose name ends the text', () => {
  const of = (code: ErrorCode, options = {}) => toGrpcError(new NymphError(code, 'what failed', options));
  assert.deepEqual(of('not-found'), { code: 5, details: 'what failed: not found' });
  assert.deepEqual(of('exists'), { code: 6, details: 'what failed: already exists' });
  assert.deepEqual(of('precondition', { hint: 'Do this.' }), {
    code: 9,
    details: 'what failed (Do this.): failed precondition',
  });
  assert.deepEqual(of('usage'), { code: 3, details: 'what failed: invalid argument' });
  assert.deepEqual(of('source'), { code: 14, details: 'what failed: unavailable' });
  assert.deepEqual(of('cancelled'), { code: 1, details: 'what failed: context canceled' });
  assert.deepEqual(toGrpcError(new TypeError('oops')), { code: 13, details: 'oops: internal' });
  assert.deepEqual(toGrpcError('text'), { code: 13, details: 'text: internal' });
  const full = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
  assert.equal(toGrpcError(full).code, 8);
  assert.equal(of('cache', { cause: full }).code, 8);
});
