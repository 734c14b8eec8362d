/**
 * A crash between any two steps of what lazy images do: made directory, mount, unmount, removed directory. The next daemon
 * has exactly what the snapshots need that are recorded.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Layer, LazyLayers } from '../../src/snapshotter/lazy.ts';
import { createLazyImages } from '../../src/snapshotter/lazy-images.ts';

const never = new AbortController().signal;
const LABELS = {
  'containerd.io/snapshot/cri.image-ref': 'registry.example/app:nydus',
  'containerd.io/snapshot/cri.manifest-digest': `sha256:${'a'.repeat(64)}`,
  'containerd.io/snapshot/nydus-bootstrap': 'true',
  'containerd.io/snapshot.ref': 'chain',
};
const base: Layer = { id: 1, name: 'base', parentId: undefined, kind: 'committed', labels: LABELS, lazy: true };
/** Unpacked by containerd for a puller that did not say which image it is. */
const unpacked: Layer = { ...base, labels: { 'containerd.io/snapshot/nydus-bootstrap': 'true' }, lazy: false };
const container = (id: number): Layer => ({ id, name: `c${id}`, parentId: 1, kind: 'active', labels: {}, lazy: false });

/** What outlives a daemon: the kernel's mounts, as the catalogue and the next daemon find them, and the records. */
interface Node {
  root: string;
  mounted: Set<string>;
  records: Map<number, Layer>;
}

/** A daemon that dies before step number `last`: that step and all after it never come. */
function start(
  node: Node,
  last = Number.POSITIVE_INFINITY,
): { lazy: LazyLayers; steps: string[]; died: Promise<void> } {
  const steps: string[] = [];
  let die = () => {};
  const died = new Promise<void>((resolve) => {
    die = resolve;
  });
  const step = (name: string): Promise<void> => {
    if (steps.length >= last) {
      die();
      return new Promise(() => {});
    }
    steps.push(name);
    return Promise.resolve();
  };
  const lazy = createLazyImages({
    directories: {
      root: node.root,
      place: (id) => join(node.root, String(id)),
      fs: (id) => join(node.root, String(id), 'fs'),
    },
    async mount(_, directory) {
      await step('mount');
      node.mounted.add(directory);
      await step('mounted');
    },
    async unmount(directory) {
      await step('unmount');
      node.mounted.delete(directory);
      await step('unmounted');
    },
    async find() {
      await step('find');
      return `registry.example/app:nydus@${LABELS['containerd.io/snapshot/cri.manifest-digest']}`;
    },
    mounted: () => [...node.mounted],
    began: () => {},
    requested: () => {},
    chains: async () => ['chain'],
    alternatives: { of: async () => undefined } as never,
    pieces: { unpacked: async () => {} },
    log: () => {},
  });
  return { lazy, steps, died };
}

/** A pull, two containers, and their end, with records as the snapshotter keeps them. */
async function life(node: Node, lazy: LazyLayers, bottom: Layer): Promise<void> {
  await lazy.claim({ key: 'nymph/default/1', target: 'chain', labels: bottom.labels, ancestors: [] }, never);
  node.records.set(1, bottom);
  lazy.committed(bottom);
  for (const id of [2, 3]) {
    await lazy.lowers(id, [bottom], never);
    node.records.set(id, container(id));
  }
  for (const id of [2, 3, 1]) {
    node.records.delete(id);
    await lazy.release(id);
  }
}

for (const [what, bottom] of [
  ['a puller that names the image', base],
  ['a bootstrap that containerd unpacked', unpacked],
] as const)
  test(`a crash at every step, and at the first steps of the recovery: ${what}`, async (t) => {
    let tried = 0;
    for (let last = 0; ; last++)
      for (let recovery = 0; recovery < 3; recovery++) {
        const root = mkdtempSync(join(tmpdir(), 'nymph-lazy-'));
        t.after(() => rmSync(root, { recursive: true, force: true }));
        const node: Node = { root, mounted: new Set(), records: new Map() };
        for (const id of [1, 2, 3]) mkdirSync(join(root, String(id), 'fs'), { recursive: true });
        const first = start(node, last);
        const ended = await Promise.race([life(node, first.lazy, bottom).then(() => true), first.died]);
        await halted();
        const where = `after ${first.steps.join(', ')}; recovery cut after ${recovery}`;
        // A second crash, while the first is being mended.
        const cut = start(node, recovery);
        await Promise.race([cut.lazy.restore([...node.records.values()]), cut.died]);
        await halted();

        const { lazy } = start(node);
        await lazy.restore([...node.records.values()]);
        const living = [...node.records.keys()].filter((id) => id > 1);
        for (const id of living) {
          const lowers = await lazy.lowers(id, [bottom], never);
          assert.ok(lowers && node.mounted.has(lowers.directories.at(-1)!), `${where}: ${id} can be mounted`);
        }
        if (living.length === 0) assert.deepEqual([[...node.mounted], images(root)], [[], []], where);
        for (const id of [...living, 1]) {
          node.records.delete(id);
          await lazy.release(id);
        }
        assert.deepEqual([[...node.mounted], images(root)], [[], []], `${where}: nothing is left`);
        tried++;
        if (ended && recovery === 2) {
          t.diagnostic(`${tried} crashes`);
          assert.ok(tried > 12);
          return;
        }
      }
  });

/** What died at one step may be between two others elsewhere: it comes to its end there, which a dead process does at once. */
async function halted(): Promise<void> {
  do await new Promise(setImmediate);
  while (process.getActiveResourcesInfo().some((name) => name.startsWith('FSReq')));
}

function images(root: string): string[] {
  try {
    return readdirSync(join(root, 'images'));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT');
    return [];
  }
}
