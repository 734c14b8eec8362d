import { setImmediate as nextTurn } from 'node:timers/promises';
import { messageOf } from '../cache/health.ts';
import { NymphError } from '../errors.ts';
import { parseFilters } from './filters.ts';
import { changedLabels, requestLabels } from './labels.ts';
import type { Claim, LayerRequest } from './lazy.ts';
import { mappedOwner } from './overlay.ts';
import { type RecoverParts, recover } from './recover.ts';
import { createReleases } from './releases.ts';
import {
  type Info,
  LABEL_LAZY,
  LABEL_REMAPPED,
  LABEL_TARGET,
  type Labels,
  type Mount,
  type Snapshotter,
  type Usage,
} from './snapshotter.ts';
import { createSpares } from './spares.ts';
import type { SnapshotRecord } from './store.ts';
import { createViews } from './views.ts';

export interface SnapshotterParts extends RecoverParts {
  /** Of every overlay mount. */
  overlayOptions: readonly string[];
  /** A layer that nobody can say of within so many ms whether it is served lazily is unpacked. */
  patience?: number;
}

/** containerd waits in a call, and may hold a lock that its garbage collection needs; it downloads the layer itself then. */
const PATIENCE_MS = 30_000;

/** Infos in one piece of a list. */
const PAGE = 100;

/** Takes up what an earlier daemon left, then serves the calls of `snapshotter.ts`. */
export async function createSnapshotter(parts: SnapshotterParts): Promise<Snapshotter> {
  const { store, durability, directories, lazy, log, patience = PATIENCE_MS } = parts;
  /** Snapshots that are being made or removed: they have no record yet, or none any more that is durable. */
  const changing = new Set<number>();
  const { below, mountsOn } = createViews(parts);
  const releases = createReleases(directories, lazy, log);
  const measuring = new Map<string, Promise<Usage>>();
  const spares = createSpares(directories, await recover(parts), releases.release);
  let used = store.lastId() > 0;
  const inUse = () => new Set([...store.ids(), ...changing, ...spares.ids(), ...releases.pending()]);
  void directories.clean(inUse).catch((error) => {
    log('warn', 'what removed snapshots left was not cleared away', { error: messageOf(error) });
  });

  function known(key: string): SnapshotRecord {
    const record = store.get(key);
    if (record === undefined) throw new NymphError('not-found', `no snapshot ${key} is here`);
    return record;
  }

  function refuseUsed(key: string): void {
    if (store.get(key) !== undefined) throw new NymphError('exists', `a snapshot ${key} is here`);
  }

  /** Nearest first. */
  function ancestorsOf(parent: string): SnapshotRecord[] {
    if (parent === '') return [];
    const chain = store.chain(parent);
    if (chain.length === 0) throw new NymphError('not-found', `no snapshot ${parent} is here to build on`);
    if (chain[0].kind !== 'committed')
      throw new NymphError('usage', `the snapshot ${parent} cannot be built on: it is not committed`);
    return chain;
  }

  async function prepare(key: string, parent: string, given: Labels, signal: AbortSignal): Promise<Mount[]> {
    const labels = requestLabels(given);
    const target = labels[LABEL_TARGET];
    if (target === undefined) return make('active', key, parent, labels, signal);
    refuseUsed(key);
    const ancestors = ancestorsOf(parent);
    // The part in front of the key is the plugin: `plugin.ts`.
    const name = `${key.split('/', 1)[0]}/lazy/${ancestors[0]?.id ?? 0}/${target}`;
    const claim: Claim =
      store.get(name) === undefined ? await ask({ key, target, labels, ancestors }, signal) : { here: true };
    // Tools look for this field, with these texts.
    const fields = { 'remote-snapshot-prepared': String(claim.here), key, target };
    if (!claim.here) {
      log('info', 'a layer is unpacked', { ...fields, reason: claim.reason });
      return make('active', key, parent, { ...labels, [LABEL_LAZY]: `false: ${claim.reason}` }, signal);
    }
    await keepLazy(name, parent, { ...labels, ...claim.labels, [LABEL_LAZY]: 'true' });
    log('info', 'a layer is served lazily', fields);
    throw new NymphError('exists', `the layer ${target} is served lazily; a snapshot for it is here`);
  }

  async function ask(layer: LayerRequest, signal: AbortSignal): Promise<Claim> {
    if (lazy === undefined) return { here: false, reason: 'no image is served lazily here' };
    const late = AbortSignal.timeout(patience);
    try {
      return await lazy.claim(layer, AbortSignal.any([signal, late]));
    } catch (error) {
      if (signal.aborted) throw error;
      const reason = late.aborted ? `the registry was too slow: no answer within ${patience} ms` : messageOf(error);
      return { here: false, reason };
    }
  }

  /** One record for a layer on its parent, whoever asks for it, from whatever namespace. Resolves when it is durable. */
  async function keepLazy(name: string, parent: string, labels: Labels): Promise<void> {
    if (store.get(name) === undefined) {
      try {
        return await born(async (id, made) => {
          await made;
          lazy?.committed(store.create({ id, name, parent, kind: 'committed', labels }));
        });
      } catch (error) {
        // Another call for the same layer was first.
        if (!(error instanceof NymphError && error.code === 'exists')) throw error;
      }
    }
    const other = store.get(name);
    if (other !== undefined) await durable(other.id);
    // That one may have failed since.
    if (store.get(name) === undefined) throw new NymphError('cache', `the snapshot ${name} could not be kept`);
  }

  async function make(
    kind: 'active' | 'view',
    key: string,
    parent: string,
    labels: Labels,
    signal: AbortSignal,
  ): Promise<Mount[]> {
    refuseUsed(key);
    const ancestors = ancestorsOf(parent);
    const mapped = mappedOwner(labels);
    return born(async (id, made) => {
      // At the same time: each step waits for a thread of its own.
      const [lowers] = await settled(below(id, ancestors, signal), made);
      const mounts = mountsOn(id, kind, labels, lowers);
      const owner = mapped ?? lowers.owner;
      if (owner !== undefined) await directories.own(id, owner);
      if (signal.aborted) throw new NymphError('cancelled', `nobody waits for the snapshot ${key} any more`);
      store.create({ id, name: key, parent, kind, labels });
      if (kind === 'active' && ancestors.length > 0) lazy?.began(key, ancestors);
      return mounts;
    });
  }

  /** Gives a new snapshot its id. Resolves when it is durable; if that fails, nothing of it stays. */
  async function born<T>(act: (id: number, made: Promise<void>) => Promise<T>): Promise<T> {
    const { id, made } = spares.take();
    used = true;
    changing.add(id);
    try {
      const result = await act(id, made);
      await durable(id);
      return result;
    } catch (error) {
      const name = store.nameOf(id);
      if (name !== undefined) store.remove(name);
      releases.release(id);
      throw error;
    } finally {
      changing.delete(id);
      // The answer goes first.
      setImmediate(spares.refill);
    }
  }

  /** Resolves when what is recorded, and the directories of this snapshot, would survive a power cut. */
  async function durable(id: number): Promise<void> {
    await Promise.all([durability.sync(), directories.sync(id)]);
  }

  async function mounts(key: string, signal: AbortSignal): Promise<Mount[]> {
    const { id, kind, labels } = known(key);
    if (kind === 'committed')
      throw new NymphError('precondition', `the snapshot ${key} has no mounts: it is committed`);
    const [, ...ancestors] = store.chain(key);
    const lowers = await below(id, ancestors, signal);
    if (store.nameOf(id) === undefined) {
      // Removed meanwhile: what was held for it since is let go again.
      releases.release(id);
      throw new NymphError('not-found', `the snapshot ${key} was removed`);
    }
    return mountsOn(id, kind, labels, lowers);
  }

  async function commit(name: string, key: string, given: Labels, parent: string): Promise<void> {
    const labels: Record<string, string> = { ...requestLabels(given) };
    const lazyness = known(key).labels[LABEL_LAZY];
    if (lazyness !== undefined) labels[LABEL_LAZY] = lazyness;
    // The client library's name for a snapshot that it gives other owners, without any label.
    if (key.endsWith('-remap')) labels[LABEL_REMAPPED] = 'true';
    const committed = store.commit(key, name, labels, parent);
    await durability.sync();
    lazy?.committed(committed);
  }

  async function remove(key: string): Promise<void> {
    const { id } = store.remove(key);
    changing.add(id);
    try {
      await durability.sync();
      releases.release(id);
    } finally {
      changing.delete(id);
    }
  }

  async function update(key: string, given: Labels, paths: readonly string[]): Promise<Info> {
    const { labels, lazy: isLazy } = known(key);
    const updated = store.setLabels(key, changedLabels(labels, given, paths, isLazy));
    await durability.sync();
    return infoOf(updated);
  }

  async function* list(filters: readonly string[]): AsyncGenerator<Info[]> {
    const matches = parseFilters(filters);
    for (let after = 0; ; await nextTurn()) {
      const page = store.page(after, PAGE);
      if (page.length === 0) return;
      after = page[page.length - 1].id;
      const infos = page.map(infoOf).filter(matches);
      if (infos.length > 0) yield infos;
    }
  }

  async function usage(key: string): Promise<Usage> {
    const record = known(key);
    if (record.kind === 'view' || record.lazy) return { size: 0, inodes: 0 };
    if (record.usage !== undefined) return record.usage;
    const flight = `${record.kind}/${record.id}`;
    let measured = measuring.get(flight);
    if (measured === undefined) {
      measured = directories.usage(record.id).finally(() => measuring.delete(flight));
      measuring.set(flight, measured);
      if (record.kind === 'committed')
        measured.then((result) => store.setUsage(record.id, result)).catch(() => undefined);
    }
    return measured;
  }

  return {
    get used() {
      return used;
    },
    prepare,
    view: (key, parent, labels, signal) => make('view', key, parent, requestLabels(labels), signal),
    mounts,
    commit,
    remove,
    stat: (key) => infoOf(known(key)),
    update,
    list,
    usage,
    async cleanup() {
      await releases.settled();
      await directories.clean(inUse);
    },
    async close() {
      await spares.close();
      await releases.settled();
      await directories.close();
      await durability.close();
      store.close();
    },
  };
}

/** Waits for both, whatever becomes of one: nothing goes on behind a failure. */
async function settled<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([a, b]);
  return Promise.all([a, b]);
}

function infoOf({ name, parent, kind, created, updated, labels }: SnapshotRecord): Info {
  return { name, parent, kind, created, updated, labels };
}
