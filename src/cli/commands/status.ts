import type { DaemonLimits, ImageActivity, ImageInfo, SlowRead, SourceStatus, Status } from '../../daemon/api.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import type { SnapshotsStatus } from '../../snapshotter/summary.ts';
import { isDigest } from '../../sources/digest.ts';
import type { Context } from '../context.ts';
import { canonicalReference } from '../reference.ts';
import { coloured, count, fields, percent, plural } from '../text.ts';

/** `nymph status`: of the daemon, or of one image. */
export async function run(context: Context, name: string | undefined): Promise<undefined> {
  const client = await context.daemon();
  if (name === undefined) {
    const status = await client.status();
    context.print(status, () => statusText(status));
  } else {
    const activity = await client.activity(isDigest(name) ? name : canonicalReference(name));
    const { image, ...rest } = activity;
    context.print({ ...image, ...rest }, () => activityText(activity));
  }
}

function statusText({
  health,
  ready: { problems },
  limits,
  cache,
  fuse,
  fetch,
  mounts,
  images,
  snapshots,
}: Status): string {
  const ready = images.reduce((sum, image) => sum + image.ready, 0);
  const size = images.reduce((sum, image) => sum + image.size, 0);
  const broken = mounts.filter((mount) => mount.state !== 'ok');
  const faults = `median ${formatDuration(fetch.faultMs.p50)}, 99% ${formatDuration(fetch.faultMs.p99)}, longest ${formatDuration(fetch.faultMs.max)}`;
  return [
    section('daemon', [
      ['version', health.version],
      ['process', `${health.pid}${health.supervisor === undefined ? '' : `, supervisor ${health.supervisor}`}`],
      ['up', formatDuration(health.uptime * 1000)],
      ['root', health.root],
      ['may use', limitsText(limits)],
      ['too low', limits.openFiles.low],
      ...problems.map((problem): [string, string] => ['not ready', problem]),
    ]),
    section('mounts', [
      ['mounted', plural(mounts.length, 'mount')],
      ...mounts.flatMap(({ directory, reason }): [string, string][] =>
        reason === undefined ? [] : [['FUSE tree', `${directory}: ${reason}`]],
      ),
      ...broken.map((mount): [string, string] => ['failing', `${mount.directory}: ${mount.state}`]),
      [
        'images',
        `${plural(images.length, 'image')}, ${formatSize(ready)} of ${formatSize(size)} here${pinnedText(images)}`,
      ],
    ]),
    ...(isUsed(snapshots) ? [section('containerd', snapshotRows(snapshots))] : []),
    section('cache', [
      ['used', `${formatSize(cache.bytes)}${cache.quota === undefined ? '' : ` of ${formatSize(cache.quota)}`}`],
      ['blobs', `${count(cache.blobs)}, ${count(cache.openBlobs)} in use`],
      ['writable', cache.writable ? undefined : 'no: reads go on, nothing is kept'],
    ]),
    section('reads', [
      ['driver', fuse.driver],
      ['from the cache', `${count(fuse.hits)} (${formatSize(fuse.hitBytes)})`],
      ['that waited', `${count(fuse.faults)}, ${count(fuse.waiting)} waiting now`],
      ['waiting time', fuse.faults === 0 ? undefined : faults],
      ['failed', count(fetch.failed)],
    ]),
    section('fetching', [
      sharesRow(fetch.sources),
      ...Object.entries(fetch.sources).map(([name, source]): [string, string] => [name, sourceText(source)]),
      ['requests', `${count(fetch.requests)}, ${count(fetch.retries)} tried again`],
      ['wrong chunks', count(fetch.badChunks)],
    ]),
  ].join('\n');
}

function limitsText({ cpus, memory, cgroup, openFiles }: DaemonLimits): string {
  const by =
    cgroup.length === 0 ? '' : ` (${cgroup.map((one) => (one === 'cpus' ? 'CPUs' : one)).join(' and ')} by its cgroup)`;
  return `${plural(cpus, 'CPU')}, ${formatSize(memory)} of memory${by}, ${count(openFiles.limit)} open files`;
}

function pinnedText(images: readonly ImageInfo[]): string {
  const pinned = images.filter((image) => image.pinned).length;
  return pinned === 0 ? '' : `, ${count(pinned)} pinned`;
}

/** How much came from where. */
function sharesRow(sources: Record<string, SourceStatus>): [string, string] {
  const shares = {
    'other peers': 0,
    'a seed': 0,
    "dfdaemon's cache": 0,
    "dfdaemon's proxy, which does not say whence": 0,
    'the origin': 0,
  };
  let total = 0;
  for (const { bytes, from = { peer: 0, seed: 0, local: 0, unknown: 0, origin: bytes } } of Object.values(sources)) {
    total += bytes;
    shares['other peers'] += from.peer;
    shares['a seed'] += from.seed;
    shares["dfdaemon's cache"] += from.local;
    shares["dfdaemon's proxy, which does not say whence"] += from.unknown;
    shares['the origin'] += from.origin;
  }
  if (total === 0) return ['fetched', 'nothing'];
  if (total === shares['the origin']) {
    const texts = Object.entries(sources).map(([name, { bytes }]) => `${formatSize(bytes)} from ${name}`);
    return ['fetched', texts.join(', ')];
  }
  const parts = Object.entries(shares).filter(([, bytes]) => bytes > 0);
  const texts = parts.map(([where, bytes]) => `${formatSize(bytes)} from ${where} (${percent(bytes, total)})`);
  return ['fetched', texts.join(', ')];
}

function sourceText({ bytes, requests, errors, errorTypes, latencyMs, hedges }: SourceStatus): string {
  const { p50, p95 } = latencyMs;
  const texts = [`${formatSize(bytes)} in ${plural(requests, 'request')}`];
  if (p50 !== undefined && p95 !== undefined)
    texts.push(`first byte after ${formatDuration(p50)}, 95% ${formatDuration(p95)}`);
  const types = Object.entries(errorTypes).map(([type, number]) => `${count(number)} ${type}`);
  if (errors > 0) texts.push(`${plural(errors, 'error')} (${types.join(', ')})`);
  if (hedges.won + hedges.lost > 0)
    texts.push(`asked because another was late: ${hedges.won} times first, ${hedges.lost} not`);
  return texts.join('; ');
}

/** Many daemons have no containerd. */
function isUsed(snapshots: SnapshotsStatus | undefined): snapshots is SnapshotsStatus {
  return snapshots !== undefined && snapshots.active + snapshots.layers.length > 0;
}

function snapshotRows({ active, layers }: SnapshotsStatus): [string, string][] {
  const reasons = new Map<string, number>();
  for (const { lazy, reason = '' } of layers) if (!lazy) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  return [
    ['containers', count(active)],
    ['lazy', plural(layers.filter(({ lazy }) => lazy).length, 'layer')],
    ...Array.from(reasons, ([reason, number]): [string, string] => [
      'unpacked',
      `${plural(number, 'layer')}: ${reason}`,
    ]),
  ];
}

function activityText({ reference, laziness, image, faults, failed, bytes, slowest }: ImageActivity): string {
  const { lazy, why } = laziness;
  return [
    fields([
      ['reference', reference],
      ...(image === undefined ? [] : imageRows(image)),
      ['lazy', `${lazy ? 'yes' : 'no'}: ${why}`],
      ['fetched', image && sourceShares(bytes)],
      ['reads that waited', image && `${count(faults)}, ${count(failed)} failed`],
    ]),
    ...(slowest.length === 0 ? [] : [section('slowest reads', slowest.map(slowRow))]),
    ...(image === undefined ? [] : [section('blobs', image.blobs.map(blobRow))]),
  ].join('\n');
}

function imageRows(image: ImageInfo): [string, string | undefined][] {
  return [
    ['digest', image.digest],
    ['format', image.format],
    ['inodes', count(image.inodes)],
    ['ready', `${percent(image.ready, image.size)}: ${formatSize(image.ready)} of ${formatSize(image.size)}`],
    ['stored', formatSize(image.storedSize)],
    ['verifiable', verifiableText(image)],
    ['mounts', image.mounts.length === 0 ? 'none' : image.mounts.join(', ')],
    ['pinned', image.pinned ? 'yes: it is not evicted' : undefined],
  ];
}

/** Since the daemon's start. */
function sourceShares(bytes: Record<string, number>): string {
  const all = Object.values(bytes).reduce((sum, value) => sum + value, 0);
  if (all === 0) return 'nothing since the daemon’s start';
  const parts = Object.entries(bytes).sort((a, b) => b[1] - a[1]);
  return parts.map(([name, value]) => `${formatSize(value)} from ${name} (${percent(value, all)})`).join(', ');
}

function slowRow({ blob, offset, path, milliseconds, at }: SlowRead): [string, string] {
  const where = path ?? `blob ${blob.slice(0, 12)} at ${count(offset)}`;
  return [formatDuration(milliseconds), `${where}, ${new Date(at).toISOString().replace('T', ' ').slice(0, 19)}Z`];
}

function blobRow(blob: ImageInfo['blobs'][number]): [string, string] {
  return [
    blob.path ?? blob.id.slice(0, 12),
    `${percent(blob.ready, blob.size)} of ${formatSize(blob.size)} here, ${formatSize(blob.storedSize)} stored${traits(blob.traits)}${checkText(blob)}`,
  ];
}

function verifiableText({ verifiable, blobs }: ImageInfo): string {
  if (verifiable) return 'yes: every chunk has a digest';
  const by = (guarantee: string) => blobs.filter((blob) => blob.guarantee === guarantee).length;
  if (by('file') + by('none') === 0) return 'no: some chunks have no digest';
  const parts = [`${count(by('chunk'))} before they are read`, `${count(by('file'))} once they are complete`];
  if (by('none') > 0) parts.push(`${count(by('none'))} never: they have no digest`);
  return `files: ${parts.join(', ')}`;
}

function checkText({ guarantee, standing }: ImageInfo['blobs'][number]): string {
  if (guarantee === 'none') return ', no digest';
  if (guarantee === 'chunk') return '';
  if (standing === 'wrong') return ', WRONG: reads fail';
  return standing === 'right' ? ', checked' : ', not checked yet';
}

function traits(list: readonly string[]): string {
  return list.length === 0 ? '' : ` (${list.join(', ')})`;
}

function section(title: string, rows: readonly (readonly [string, string | undefined])[]): string {
  return `${coloured('bold', title)}\n${fields(rows, '  ')}`;
}
