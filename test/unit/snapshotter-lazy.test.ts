import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import type { ContentStore } from '../../src/containerd/content.ts';
import { findOrigin } from '../../src/containerd/find-origin.ts';
import { NymphError } from '../../src/errors.ts';
import { createHolders } from '../../src/snapshotter/holders.ts';
import type { Layer, LazyLayers } from '../../src/snapshotter/lazy.ts';
import { createLazyImages } from '../../src/snapshotter/lazy-images.ts';
import { originOf, pinned } from '../../src/snapshotter/origin.ts';
import { createPieces } from '../../src/snapshotter/pieces.ts';

const never = new AbortController().signal;
const digest = (digit: string) => `sha256:${digit.repeat(64)}` as const;
const LABELS = {
  'containerd.io/snapshot/cri.image-ref': 'registry.example:5000/team/app:nydus',
  'containerd.io/snapshot/cri.manifest-digest': digest('a'),
};
const ORIGIN = `registry.example:5000/team/app:nydus@${digest('a')}`;

test('the origin of a layer is the reference with the manifest that the puller chose', () => {
  assert.equal(originOf(LABELS), ORIGIN);
  assert.equal(originOf({ ...LABELS, 'containerd.io/snapshot/cri.manifest-digest': 'sha256:0' }), undefined);
  assert.equal(originOf({}), undefined);
  assert.equal(pinned('app', digest('b')), `docker.io/library/app:latest@${digest('b')}`);
  // Of an index that was pulled by digest, the manifest counts.
  assert.equal(pinned(`r.example/app@${digest('c')}`, digest('b')), `r.example/app@${digest('b')}`);
  assert.equal(pinned('import-2026-11-28 with spaces', digest('b')), undefined);
  assert.equal(pinned('oci:/somewhere:x', digest('b')), undefined);
});

const layer = (id: number, more: Partial<Layer> = {}): Layer => ({
  id,
  name: `nydus/default/${id}/${digest(String(id % 10))}`,
  parentId: id > 1 ? id - 1 : undefined,
  kind: 'committed',
  labels: {},
  lazy: false,
  ...more,
});

/** What containerd would say that has these blobs and images. */
function contentStore(
  blobs: { digest: string; labels: Record<string, string> }[],
  images: Record<string, string>,
): ContentStore {
  return {
    withLabel: async (namespace, labels) =>
      namespace === 'default'
        ? blobs.filter((blob) => labels.some(([name, value]) => blob.labels[name] === value))
        : [],
    namesOf: async (namespace, target) =>
      namespace === 'default' ? Object.keys(images).filter((name) => images[name] === target) : [],
    read: async () => undefined,
    close: () => {},
  };
}

test('the origin of an unpacked bootstrap layer is found by what containerd knows of its blobs', async () => {
  const config = { digest: digest('c'), labels: { 'containerd.io/gc.ref.snapshot.nydus': digest('3') } };
  const manifest = { digest: digest('d'), labels: { 'containerd.io/gc.ref.content.config': digest('c') } };
  const index = { digest: digest('e'), labels: { 'containerd.io/gc.ref.content.m.2': digest('d') } };
  const blobs = [config, manifest, index];
  const find = (images: Record<string, string>, has = blobs, id = 3) =>
    findOrigin(contentStore(has, images), layer(id), never);
  const name = 'registry.example:5000/team/app:nydus';
  assert.equal(await find({ [name]: digest('d') }), `${name}@${digest('d')}`);
  assert.equal(await find({ 'some import': digest('d'), [name]: digest('d') }), `${name}@${digest('d')}`);
  assert.equal(await find({ other: digest('a'), [name]: digest('e') }), `${name}@${digest('d')}`, 'by its index');
  await assert.rejects(find({ 'some import': digest('d') }), { code: 'not-found' });
  await assert.rejects(find({ [name]: digest('d') }, [manifest]), { code: 'not-found' });
  await assert.rejects(find({ [name]: digest('d') }, blobs, 4), { code: 'not-found' });
});

test('a directory is opened once for all, shut after the last, and never both at a time', async () => {
  const log: string[] = [];
  let open = false;
  let busy = false;
  const work = async (what: string, opened: boolean) => {
    assert.equal(busy, false);
    busy = true;
    log.push(what);
    await new Promise((resolve) => setTimeout(resolve, 1));
    open = opened;
    busy = false;
  };
  const holders = createHolders({ open: () => work('open', true), shut: () => work('shut', false) });
  await Promise.all(Array.from({ length: 30 }, (_, id) => holders.hold('/d', id, 'x')));
  assert.deepEqual(log, ['open']);
  await Promise.all(Array.from({ length: 29 }, (_, id) => holders.letGo(id)));
  assert.equal(open, true);
  const shutting = holders.letGo(29);
  const again = holders.hold('/d', 30, 'x');
  await Promise.all([shutting, again]);
  assert.equal(open, true, 'who comes while it is shut finds it open');
  for (let round = 0; round < 200; round++) {
    await Promise.all([
      holders.hold('/d', 'a', 'x'),
      holders.letGo('b'),
      holders.hold('/d', 'b', 'x'),
      holders.letGo('a'),
    ]);
    assert.equal(open, holders.isHeld('/d'));
  }
});

test('what cannot be opened is not held, and who held it before still does', async () => {
  let fails = true;
  const shut: string[] = [];
  const holders = createHolders({
    open: async () => {
      if (fails) throw new NymphError('source', 'away');
    },
    shut: async (directory) => void shut.push(directory),
  });
  await assert.rejects(holders.hold('/d', 1, 'x'), { code: 'source' });
  assert.equal(holders.isHeld('/d'), false);
  fails = false;
  await holders.hold('/d', 1, 'x');
  fails = true;
  await assert.rejects(holders.hold('/d', 1, 'x'), { code: 'source' });
  assert.equal(holders.isHeld('/d'), true);
  await holders.letGo(1);
  assert.deepEqual(shut, ['/d']);
});

test('a directory that cannot be shut keeps no other one open', async () => {
  const shut: string[] = [];
  const holders = createHolders({
    open: async () => {},
    shut: async (directory) => {
      if (directory === '/a') throw new NymphError('busy', 'in use');
      shut.push(directory);
    },
  });
  for (const directory of ['/a', '/b']) await holders.hold(directory, 1, 'x');
  await assert.rejects(holders.letGo(1), { code: 'busy' });
  assert.deepEqual(shut, ['/b']);
  assert.equal(holders.isHeld('/b'), false);
});

test('a piece that was unpacked is for everybody to read, whatever the mask', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'nymph-pieces-'));
  const mask = process.umask(0o077);
  t.after(() => {
    process.umask(mask);
    rmSync(root, { recursive: true });
  });
  const directories = {
    place: (id: number) => join(root, String(id)),
    fs: (id: number) => join(root, String(id), 'fs'),
    work: (id: number) => join(root, String(id), 'work'),
  };
  mkdirSync(directories.fs(3), { recursive: true });
  const pieces = createPieces({ directories, overlayOptions: [], unpack: async () => {}, log: () => {} });
  await pieces.unpacked(layer(3, { lazy: true }), []);
  assert.equal((statSync(directories.fs(3)).mode & 0o7777).toString(8), '755');
});

/** Lazy images with mounts that are plain directories. */
interface Made {
  root: string;
  mounted: Map<string, string>;
  finds: number;
  /** Directories of images, and keys of the snapshots that were made on them. */
  began: [string, string][];
  alternatives: Map<string, string>;
  /** Of every image. */
  chains: string[];
  /** Ids of pieces that were unpacked, each with the directories below. */
  unpacked: (string | number)[][];
  /** How often containerd does not know the image yet. */
  unknown: number;
  failure: Error | undefined;
  /** Nothing can be unmounted. */
  busy: boolean;
  images: LazyLayers;
}

function lazyImages(t: { after: (f: () => void) => void }): Made {
  const root = mkdtempSync(join(tmpdir(), 'nymph-lazy-'));
  // A claim that is refused may still be making the directory of its mount.
  t.after(() => rmSync(root, { recursive: true, maxRetries: 5, retryDelay: 20 }));
  const mounted = new Map<string, string>();
  const made: Made = {
    root,
    mounted,
    finds: 0,
    began: [],
    alternatives: new Map(),
    chains: [digest('1'), digest('2')],
    unpacked: [],
    unknown: 0,
    failure: undefined,
    busy: false,
    images: createLazyImages({
      directories: { root, place: (id) => join(root, String(id)), fs: (id) => join(root, String(id), 'fs') },
      mount: async (origin, directory) => {
        if (made.failure !== undefined) throw made.failure;
        assert.ok(existsSync(directory));
        mounted.set(directory, origin);
      },
      unmount: async (directory) => {
        if (made.busy) throw new NymphError('busy', 'in use');
        mounted.delete(directory);
      },
      mounted: () => [...mounted.keys()],
      find: async () => {
        if (++made.finds <= made.unknown) throw new NymphError('not-found', 'no name yet');
        return ORIGIN;
      },
      requested: () => {},
      began: (directory, key) => void made.began.push([directory, key]),
      chains: async () => [...made.chains],
      alternatives: { of: async (ordinary): Promise<string | undefined> => made.alternatives.get(ordinary) },
      pieces: {
        unpacked: async (piece, below) => void made.unpacked.push([piece.id, ...below]),
      },
      log: () => {},
    }),
  };
  return made;
}

const DATA = { 'containerd.io/snapshot/nydus-blob': 'true' };
const BOOTSTRAP = { 'containerd.io/snapshot/nydus-bootstrap': 'true' };

test('layers of an image whose puller names it: data is here, the bootstrap when it is mounted', async (t) => {
  const made = lazyImages(t);
  const { images, mounted, root } = made;
  const claim = (labels: Record<string, string>) =>
    images.claim({ key: 'nymph/default/1', target: digest('1'), labels, ancestors: [] }, never);
  assert.deepEqual(await claim({ ...DATA, ...LABELS }), { here: true });
  assert.deepEqual(await claim({ ...BOOTSTRAP, ...LABELS }), {
    here: true,
    labels: { 'containerd.io/snapshot/nymph.image': ORIGIN },
  });
  assert.deepEqual([...mounted.values()], [ORIGIN]);
  const ancestors = [
    layer(4),
    layer(3, { lazy: true, labels: { ...BOOTSTRAP, 'containerd.io/snapshot/nymph.image': ORIGIN } }),
    layer(2, { lazy: true, labels: DATA }),
  ];
  mkdirSync(join(root, '4', 'fs'), { recursive: true });
  const lowers = await images.lowers(5, ancestors, never);
  assert.deepEqual(lowers?.directories, [join(root, '4', 'fs'), [...mounted.keys()][0]]);
  assert.equal((await claim({})).here, false);
  images.began('nymph/default/6/early', ancestors);
  images.committed(ancestors[1]);
  images.began('nymph/default/7/container', ancestors);
  assert.deepEqual(made.began, [[[...mounted.keys()][0], 'nymph/default/7/container']]);
  await images.release(5);
  assert.equal(mounted.size, 1, 'the pull holds it for the next container');
  await images.release(3);
  assert.equal(mounted.size, 0, 'it goes with the layer');
});

test('an image is looked for once, and mounted again if its directory shows something else', async (t) => {
  const { images, mounted, root } = lazyImages(t);
  mkdirSync(join(root, '3'));
  const ancestors = [layer(3, { labels: BOOTSTRAP })];
  const [directory] = (await images.lowers(4, ancestors, never))!.directories;
  mounted.clear();
  await images.lowers(5, ancestors, never);
  assert.equal(mounted.size, 0, 'it is there');
  mkdirSync(join(root, 'below'));
  rmdirSync(directory);
  renameSync(join(root, 'below'), directory);
  await images.lowers(6, ancestors, never);
  assert.deepEqual([...mounted], [[directory, ORIGIN]]);
});

test('an image that could not be unmounted is tried again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const made = lazyImages(t);
  const { images, mounted, root } = made;
  mkdirSync(join(root, '3'));
  await images.lowers(4, [layer(3, { labels: BOOTSTRAP })], never);
  made.busy = true;
  await images.release(4);
  assert.equal(mounted.size, 1);
  for (const isBusy of [true, false]) {
    made.busy = isBusy;
    t.mock.timers.tick(30_000);
    // The directory goes after the mount.
    while (!isBusy && readdirSync(join(root, 'images')).length > 0) await new Promise(setImmediate);
    await new Promise(setImmediate);
    assert.equal(mounted.size, isBusy ? 1 : 0);
  }
});

test('a bootstrap that containerd unpacked is looked up once, and remembered over restarts', async (t) => {
  const made = lazyImages(t);
  const { images, mounted, root } = made;
  mkdirSync(join(root, '3'));
  const claimed = await images.claim(
    { key: 'nymph/default/1', target: digest('1'), labels: BOOTSTRAP, ancestors: [] },
    never,
  );
  assert.equal(claimed.here, false);
  const base = layer(3, { labels: BOOTSTRAP });
  assert.equal(await images.lowers(9, [layer(2, { lazy: true, labels: DATA })], never), undefined);
  await images.lowers(4, [base, layer(2, { lazy: true, labels: DATA })], never);
  await images.lowers(5, [base], never);
  assert.equal(made.finds, 1);
  assert.equal(readFileSync(join(root, '3', 'origin'), 'utf8'), ORIGIN);
  // Another daemon: it takes up what is held, and nothing else.
  const [directory] = mounted.keys();
  mounted.set(join(root, 'images', 'stray'), 'x');
  mkdirSync(join(root, 'images', 'stray'));
  mounted.set('/elsewhere', 'y');
  // A daemon that died before it mounted.
  mkdirSync(join(root, 'images', 'begun'));
  await images.restore([base, layer(4, { kind: 'active', parentId: 3 })]);
  assert.deepEqual([...mounted.keys()], [directory, '/elsewhere']);
  assert.deepEqual(readdirSync(join(root, 'images')), [basename(directory)]);
  await images.release(4);
  await images.release(5);
  assert.deepEqual([...mounted.keys()], ['/elsewhere']);
  assert.equal(existsSync(directory), false);
});

test('an image is mounted when its bootstrap was unpacked, as soon as containerd gives it a name', async (t) => {
  const made = lazyImages(t);
  made.unknown = 2;
  mkdirSync(join(made.root, '3'));
  made.images.committed(layer(2, { labels: DATA }));
  made.images.committed(layer(3, { labels: BOOTSTRAP }));
  while (made.mounted.size === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(made.finds, 3);
  assert.deepEqual([...made.mounted.values()], [ORIGIN]);
  await made.images.release(3);
  assert.equal(made.mounted.size, 0, 'it goes with the layer');
});

test('labels that name an image which has no such layer mount nothing of it', async (t) => {
  const { images, root } = lazyImages(t);
  mkdirSync(join(root, '3'));
  const labels = { ...BOOTSTRAP, ...LABELS, 'containerd.io/snapshot.ref': digest('9') };
  await assert.rejects(images.claim({ key: 'nymph/default/1', target: digest('9'), labels, ancestors: [] }, never), {
    code: 'denied',
  });
  await assert.rejects(images.lowers(4, [layer(3, { labels })], never), { code: 'denied' });
});

test('an ordinary image with a Nydus image beside it: its uppermost layer stands for it, others are unpacked if need be', async (t) => {
  const made = lazyImages(t);
  const { images, mounted, root } = made;
  const nydus = `registry.example:5000/team/app:1@${digest('b')}`;
  made.alternatives.set(ORIGIN, nydus);
  const [lower, upper] = [digest('1'), digest('2')];
  const of = (layers: string[]) => ({
    ...LABELS,
    'containerd.io/snapshot/cri.layer-digest': layers[0],
    'containerd.io/snapshot/cri.image-layers': layers.join(','),
  });
  const claim = (labels: Record<string, string>): Promise<object> =>
    images.claim({ key: 'nymph/default/1', target: lower, labels, ancestors: [] }, never);
  const piece = await claim(of([lower, upper]));
  assert.deepEqual(piece, { here: true, labels: { 'containerd.io/snapshot/nymph.piece-of': ORIGIN } });
  const top = await claim(of([upper]));
  assert.deepEqual(top, { here: true, labels: { 'containerd.io/snapshot/nymph.image': nydus } });
  assert.deepEqual([...mounted.values()], [nydus]);
  const { labels } = piece as { labels: Record<string, string> };
  const first = layer(2, { lazy: true, labels: { ...of([lower, upper]), ...labels } });
  const second = layer(3, { lazy: true, labels: (top as { labels: Record<string, string> }).labels });
  const whole = await images.lowers(9, [second, first], never);
  assert.deepEqual(whole?.directories, [...mounted.keys()]);
  assert.deepEqual(made.unpacked, [], 'the image has it all');
  assert.equal(await images.lowers(10, [layer(4), first], never), undefined, 'plain directories');
  assert.deepEqual(made.unpacked, [[2]]);
  const third = layer(5, { lazy: true, labels: first.labels });
  await images.lowers(11, [third, first], never);
  assert.deepEqual(made.unpacked.slice(1), [[2], [5, join(root, '2', 'fs')]], 'the lowest first');
  assert.equal(
    ((await claim({ ...of([lower]), 'containerd.io/snapshot/cri.manifest-digest': digest('9') })) as { here: boolean })
      .here,
    false,
  );
});

test('an image that cannot be mounted fails whoever needs it, with the reason, and leaves nothing', async (t) => {
  const made = lazyImages(t);
  made.failure = new NymphError('source', 'the registry is away');
  mkdirSync(join(made.root, '3'));
  const request = { key: 'nymph/default/1', target: digest('1'), labels: { ...BOOTSTRAP, ...LABELS }, ancestors: [] };
  await assert.rejects(made.images.claim(request, never), /away/);
  await assert.rejects(
    made.images.lowers(
      4,
      [layer(3, { labels: { ...request.labels, 'containerd.io/snapshot.ref': digest('1') } })],
      never,
    ),
    /away/,
  );
  assert.deepEqual(readdirSync(join(made.root, 'images')), []);
  const aborted = AbortSignal.abort();
  await assert.rejects(made.images.claim(request, aborted), { code: 'cancelled' });
});
