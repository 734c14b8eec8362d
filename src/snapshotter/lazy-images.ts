import { mkdir, readdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../cache/health.ts';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { orCancelled } from '../sources/retry.ts';
import type { Alternatives } from './alternatives.ts';
import type { Directories } from './directories.ts';
import { createHolders } from './holders.ts';
import type { Claim, Layer, LayerRequest, LazyLayers, Lowers, Owner } from './lazy.ts';
import { digestOf, type Origin, originOf } from './origin.ts';
import type { Pieces } from './pieces.ts';
import { LABEL_IMAGE, LABEL_PIECE, LABEL_TARGET, type Labels } from './snapshotter.ts';

/**
 * Nydus images for containerd. Such an image has layers of data, which containerd need not have, and at the top a small
 * layer with the bootstrap, which stands for the whole merged tree. So:
 *
 *   a data layer        is here already, without a look at it
 *   the bootstrap layer is here already once the image is mounted, where the puller says which image it is; else
 *                       containerd unpacks it
 *   a container         has the mounted image as its lowest layer, and whatever was committed on top of the bootstrap
 *
 * Where an ordinary image is pulled that has a Nydus image beside it (`alternatives.ts`), its uppermost layer is taken for
 * the bootstrap layer, and the others for data (`pieces.ts`).
 *
 * One mount serves all containers of an image, in all namespaces: `<root>/snapshots/images/<digest>`. It stays for as
 * long as one of them does, and for a while after a pull.
 */

/** Annotations of nydusify, which containerd passes on as labels. */
const LABEL_DATA = 'containerd.io/snapshot/nydus-blob';
const LABEL_BOOTSTRAP = 'containerd.io/snapshot/nydus-bootstrap';
/** Set by pullers: the digest of the layer, and those from it upwards. */
const LABEL_LAYER = 'containerd.io/snapshot/cri.layer-digest';
const LABEL_LAYERS = 'containerd.io/snapshot/cri.image-layers';
/** In the directory of a bootstrap layer that containerd unpacked: the origin of the image, once it was found. */
const ORIGIN_FILE = 'origin';
/** A pulled image stays mounted this long for its first container, ms. */
const PULL_MS = 10 * 60_000;
/** containerd names an image this soon after its last layer, ms. */
const NAMING_MS = 3_000;
/** An image that could not be unmounted is tried again after this time, ms. */
const SWEEP_MS = 30_000;
/** Digits of a digest that name the directory: short, because mount options are. */
const DIGITS = 16;

export interface LazyImagesOptions {
  directories: Pick<Directories, 'root' | 'place' | 'fs'>;
  /** Mounts an image for containers, or finds it mounted; resolves when it can be read. */
  mount: (origin: Origin, directory: string, signal: AbortSignal) => Promise<void>;
  unmount: (directory: string) => Promise<void>;
  /** Directories of all image mounts. */
  mounted: () => string[];
  /** Asks containerd which image a bootstrap layer belongs to that it unpacked. */
  find: (layer: Layer, signal: AbortSignal) => Promise<Origin>;
  /** A container is about to start on an image. @param key of its snapshot */
  began: (directory: string, key: string) => void;
  /** Says which request an image comes from, before it is mounted or its layers are looked up. */
  requested: (origin: Origin, key: string) => void;
  /** Chain ids of an image's layers. */
  chains: (origin: Origin, signal: AbortSignal) => Promise<readonly string[]>;
  alternatives: Alternatives;
  pieces: Pieces;
  log: Log;
}

export interface LazyImages extends LazyLayers {
  /** Digests of the images that committed layers stand for: containerd counts on them, whether a container runs or not. */
  needed(): ReadonlySet<OciDigest>;
}

export function createLazyImages(options: LazyImagesOptions): LazyImages {
  const { directories: places, log } = options;
  const home = join(places.root, 'images');
  const holders = createHolders({ open, shut });
  const never = new AbortController().signal;
  const pulls = new Map<string, NodeJS.Timeout>();
  /** Bootstrap layers that were committed, with the origin of their image where it is known. */
  const bootstraps = new Map<number, Origin | undefined>();
  /** What the directories of mounted images show: another one, or none, is mounted there where it is not so. */
  const roots = new Map<string, Root>();
  let sweeping = false;

  const directoryOf = (origin: Origin) =>
    join(home, digestOf(origin).slice('sha256:'.length, 'sha256:'.length + DIGITS));

  async function open(directory: string, origin: Origin): Promise<void> {
    // It is asked for with each call for a container: reading the table of mounts takes milliseconds on a busy node.
    const known = roots.get(directory);
    if (known !== undefined && isSame(known, await rootOf(directory).catch(() => undefined))) return;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      await options.mount(origin, directory, never);
    } catch (error) {
      await rmdir(directory).catch(() => undefined);
      throw error;
    }
    roots.set(directory, await rootOf(directory));
  }

  async function shut(directory: string): Promise<void> {
    roots.delete(directory);
    await options.unmount(directory);
    await rmdir(directory);
  }

  async function claim({ key, target, labels }: LayerRequest, signal: AbortSignal): Promise<Claim> {
    const origin = originOf(labels);
    if (origin !== undefined) options.requested(origin, key);
    if (isSet(labels, LABEL_DATA)) {
      // The bootstrap layer will be asked for next: it is read meanwhile, and who asks for it hears of what goes wrong.
      if (origin !== undefined) pulled(origin).catch(() => undefined);
      return { here: true };
    }
    if (!isSet(labels, LABEL_BOOTSTRAP)) return claimOrdinary(target, labels, origin, signal);
    if (origin === undefined)
      return { here: false, reason: 'the puller does not say which image it is; the bootstrap layer is unpacked' };
    await Promise.all([
      orCancelled(pulled(origin), signal, `mounting ${origin}`),
      requireLayer(origin, target, signal),
    ]);
    return { here: true, labels: { [LABEL_IMAGE]: origin } };
  }

  /** Where a puller does not say which image it is, an image's own annotations could name another, which is not its own. */
  async function requireLayer(origin: Origin, chainId: string, signal: AbortSignal): Promise<void> {
    if (!(await options.chains(origin, signal)).includes(chainId))
      throw new NymphError('denied', `the layer ${chainId} is said to be of ${origin}, which has none like it`);
  }

  async function claimOrdinary(
    target: string,
    labels: Labels,
    ordinary: Origin | undefined,
    signal: AbortSignal,
  ): Promise<Claim> {
    if (ordinary === undefined)
      return { here: false, reason: 'an ordinary layer, of an image that its puller does not name' };
    const image = await orCancelled(
      options.alternatives.of(ordinary),
      signal,
      `looking for a Nydus image for ${ordinary}`,
    );
    if (image === undefined) return { here: false, reason: 'a layer of an ordinary image' };
    await requireLayer(ordinary, target, signal);
    const mounted = orCancelled(pulled(image), signal, `mounting ${image}`);
    if (labels[LABEL_LAYERS]?.includes(',') !== false) {
      mounted.catch(() => undefined);
      return { here: true, labels: { [LABEL_PIECE]: ordinary } };
    }
    await mounted;
    return { here: true, labels: { [LABEL_IMAGE]: image } };
  }

  /** Mounts an image that is being pulled, for the container that will likely follow. */
  async function pulled(origin: Origin): Promise<void> {
    const holder = holderOf(origin);
    await holders.hold(directoryOf(origin), holder, origin);
    clearTimeout(pulls.get(holder));
    pulls.set(holder, setTimeout(() => void endPull(holder), PULL_MS).unref());
  }

  async function endPull(holder: string): Promise<void> {
    clearTimeout(pulls.get(holder));
    pulls.delete(holder);
    await letGo(holder);
  }

  async function held(id: number, origin: Origin, signal: AbortSignal): Promise<string> {
    const directory = directoryOf(origin);
    await orCancelled(holders.hold(directory, id, origin), signal, `mounting ${origin}`);
    return directory;
  }

  async function lowers(id: number, ancestors: readonly Layer[], signal: AbortSignal): Promise<Lowers | undefined> {
    const index = ancestors.findIndex(isBootstrap);
    const above = index < 0 ? ancestors : ancestors.slice(0, index);
    const piece = above.findIndex(isPiece);
    if (piece >= 0) await unpackPiece(id, above[piece], ancestors.slice(piece + 1), signal);
    // Data alone has no files: a bootstrap layer that containerd unpacks builds on empty directories.
    if (index < 0) return undefined;
    const directory = await held(id, await origin(ancestors[index], signal), signal);
    const directories = [...ancestors.slice(0, index).map((layer) => places.fs(layer.id)), directory];
    const [uppermost] = directories;
    const { uid, gid } = (uppermost === directory && roots.get(directory)) || (await stat(uppermost));
    return { directories, owner: { uid, gid } };
  }

  /** Another image builds on a piece: it and those below it have to be unpacked. */
  async function unpackPiece(id: number, piece: Layer, below: readonly Layer[], signal: AbortSignal): Promise<void> {
    const lower = (await lowers(id, below, signal))?.directories ?? below.map((layer) => places.fs(layer.id));
    await orCancelled(options.pieces.unpacked(piece, lower), signal, `unpacking ${piece.name}`);
  }

  function committed(layer: Layer): void {
    if (!isBootstrap(layer)) return;
    bootstraps.set(layer.id, layer.labels[LABEL_IMAGE]);
    if (layer.lazy) return;
    eventually(layer)
      .then((found) => {
        if (!bootstraps.has(layer.id)) return;
        bootstraps.set(layer.id, found);
        return pulled(found);
      })
      .catch((error) => log('info', 'an image is not mounted before its first container', { why: error.message }));
  }

  function began(key: string, ancestors: readonly Layer[]): void {
    const base = ancestors.find(isBootstrap);
    const image = base && bootstraps.get(base.id);
    if (image !== undefined) options.began(directoryOf(image), key);
  }

  /** containerd gives an image its name a moment after its layers are unpacked. */
  async function eventually(base: Layer): Promise<Origin> {
    for (let pause = 25; ; pause *= 2) {
      try {
        return await origin(base, never);
      } catch (error) {
        if (pause > NAMING_MS) throw error;
        await sleep(pause, undefined, { ref: false });
      }
    }
  }

  async function origin(base: Layer, signal: AbortSignal): Promise<Origin> {
    const known = base.labels[LABEL_IMAGE] ?? (await remembered(base.id));
    if (known !== undefined) return known;
    const said = originOf(base.labels);
    if (said !== undefined) await requireLayer(said, base.labels[LABEL_TARGET] ?? '', signal);
    const found = said ?? (await options.find(base, signal));
    await writeFile(join(places.place(base.id), ORIGIN_FILE), found);
    if (bootstraps.has(base.id)) bootstraps.set(base.id, found);
    return found;
  }

  async function remembered(id: number): Promise<Origin | undefined> {
    try {
      return (await readFile(join(places.place(id), ORIGIN_FILE), 'utf8')) || undefined;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  async function release(id: number): Promise<void> {
    const image = bootstraps.get(id);
    bootstraps.delete(id);
    if (image !== undefined) await endPull(holderOf(image));
    await letGo(id);
  }

  async function letGo(holder: number | string): Promise<void> {
    try {
      await holders.letGo(holder);
    } catch (error) {
      log('warn', 'an image that no snapshot uses stays mounted', { why: (error as Error).message });
      sweepLater();
    }
  }

  /** Unmounts what nobody holds. */
  async function sweep(): Promise<void> {
    for (const directory of options.mounted())
      if (directory.startsWith(`${home}/`) && !holders.isHeld(directory))
        await holders.shutIdle(directory).catch((error) => {
          log('warn', 'an image that no snapshot uses stays mounted', { directory, why: error.message });
          sweepLater();
        });
  }

  function sweepLater(): void {
    if (sweeping) return;
    sweeping = true;
    setTimeout(() => {
      sweeping = false;
      void sweep();
    }, SWEEP_MS).unref();
  }

  async function restore(layers: readonly Layer[]): Promise<void> {
    const byId = new Map(layers.map((layer) => [layer.id, layer]));
    for (const layer of layers)
      if (isBootstrap(layer)) bootstraps.set(layer.id, layer.labels[LABEL_IMAGE] ?? (await remembered(layer.id)));
    for (const layer of layers) {
      const base = layer.kind === 'committed' ? undefined : baseOf(layer, byId);
      if (base === undefined) continue;
      const known = base.labels[LABEL_IMAGE] ?? (await remembered(base.id));
      if (known !== undefined) holders.adopt(directoryOf(known), layer.id);
    }
    await sweep();
    // Of a mount that was being made or taken away; what is mounted, or not empty, stays.
    for (const name of await readdir(home).catch(() => []))
      if (!holders.isHeld(join(home, name))) await rmdir(join(home, name)).catch(() => undefined);
  }

  function needed(): ReadonlySet<OciDigest> {
    return new Set([...bootstraps.values()].flatMap((origin) => (origin === undefined ? [] : [digestOf(origin)])));
  }

  return { claim, lowers, committed, began, release, restore, needed };
}

/** The root directory of a mounted image. */
interface Root extends Owner {
  dev: number;
  ino: number;
}

async function rootOf(directory: string): Promise<Root> {
  const { dev, ino, uid, gid } = await stat(directory);
  return { dev, ino, uid, gid };
}

/** Device and inode: the root of a mount differs from the directory below it. */
function isSame(root: Root, other: Root | undefined): boolean {
  return root.dev === other?.dev && root.ino === other.ino;
}

const holderOf = (origin: Origin) => `pull of ${origin}`;

function isBootstrap({ labels, kind }: Layer): boolean {
  return kind === 'committed' && (isSet(labels, LABEL_BOOTSTRAP) || labels[LABEL_IMAGE] !== undefined);
}

function isPiece({ labels, lazy }: Layer): boolean {
  return lazy && labels[LABEL_PIECE] !== undefined;
}

/** The ordinary image that a piece is of, and the digest of its layer. */
export function pieceOf({ labels }: Layer): { image: Origin; layer: string } {
  return { image: labels[LABEL_PIECE], layer: labels[LABEL_LAYER] };
}

function isSet(labels: Labels, key: string): boolean {
  return labels[key] === 'true';
}

/** The nearest bootstrap layer below a snapshot. */
function baseOf(layer: Layer, byId: ReadonlyMap<number, Layer>): Layer | undefined {
  for (let at = layer.parentId; at !== undefined; at = byId.get(at)?.parentId) {
    const below = byId.get(at);
    if (below !== undefined && isBootstrap(below)) return below;
  }
  return undefined;
}
