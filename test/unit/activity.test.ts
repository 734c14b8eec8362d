import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ActivityParts, createActivity } from '../../src/daemon/activity.ts';
import {
  type Info,
  LABEL_IMAGE,
  LABEL_LAZY,
  type Labels,
  type Snapshotter,
} from '../../src/snapshotter/snapshotter.ts';
import { summary } from '../../src/snapshotter/summary.ts';

const REFERENCE = 'registry.example/app:1';
/** As containerd's CRI and nerdctl set it. */
const PULLED_FOR = 'containerd.io/snapshot/cri.image-ref';

/** What goes on with images of which nothing is in the cache, but layers with these labels at containerd. */
function activityOf(layers: Labels[]): ReturnType<typeof createActivity> {
  const infos = layers.map((labels, i): Info => {
    const [created, updated] = [0n, 0n];
    return { name: `layer ${i}`, parent: '', kind: 'committed', created, updated, labels };
  });
  const snapshotter = {
    async *list() {
      yield infos;
    },
  } as unknown as Snapshotter;
  const parts = { find: () => undefined, canonical: (name: string) => name, snapshots: () => summary(snapshotter) };
  return createActivity(parts as unknown as ActivityParts);
}

test('an ordinary image is told of by its layers: why it is not lazy', async () => {
  const pulled = { [PULLED_FOR]: REFERENCE };
  const activity = activityOf([
    { ...pulled, [LABEL_LAZY]: 'false: it is no Nydus image' },
    { ...pulled, [LABEL_LAZY]: 'false: it is no Nydus image' },
    { ...pulled },
    { [PULLED_FOR]: 'registry.example/other:1', [LABEL_LAZY]: 'true' },
    {},
  ]);
  assert.deepEqual(await activity(REFERENCE), {
    reference: REFERENCE,
    laziness: {
      lazy: false,
      why: '3 of 3 layers are unpacked: it is no Nydus image; its puller did not ask',
    },
    ...{ faults: 0, failed: 0, bytes: {}, slowest: [] },
  });
  assert.equal((await activity('registry.example/other:1')).laziness.lazy, true);
  await assert.rejects(activity('registry.example/absent:1'), { code: 'not-found' });
});

test('a lazy image is found by the reference with a digest that its uppermost layer has', async () => {
  const activity = activityOf([{ [LABEL_LAZY]: 'true', [LABEL_IMAGE]: `${REFERENCE}@sha256:${'0'.repeat(64)}` }]);
  assert.deepEqual((await activity(REFERENCE)).laziness, {
    lazy: true,
    why: 'containerd has it from here; nothing of it was read yet',
  });
  await assert.rejects(activity('registry.example/app'), { code: 'not-found' });
});
