import { dirname, isAbsolute, join, normalize } from 'node:path';
import { isHostPattern } from '../plugins/hosts.ts';
import { isScheme } from '../plugins/scheme.ts';
import { nodeLimits } from './node-limits.ts';
import { parseDuration, parseSize } from './units.ts';

/**
 * Every setting of `config.toml`: one row each with its type, default and meaning. The reader (`config.ts`), the `Config`
 * type and the table in `docs/configuration.md` come from these rows.
 */
export interface Setting<T> {
  /** Type and unit, for the documentation and for messages: `size`, `integer 1–64`. */
  readonly type: string;
  /** The value without a line in the file; a function if it follows from other settings. */
  readonly default: T | ((top: Paths) => T);
  /** The default as the documentation shows it. */
  readonly defaultText: string;
  /** What it does: one sentence. */
  readonly doc: string;
  /** The typed value of a parsed TOML value, or what is wrong with it. */
  readonly read: (value: unknown) => { value: T } | { wrong: string };
}

/** The settings that others are derived from. */
export interface Paths {
  readonly root: string;
  readonly address: string;
}

type Row<T> = { default: T | ((top: Paths) => T); defaultText?: string; doc: string };

/** `sockaddr_un.sun_path` holds 108 bytes with its NUL (unix(7)). */
const MAX_SOCKET_PATH = 107;

export const SETTINGS = {
  top: {
    root: path({ default: '/var/lib/nymph', doc: 'Directory of the cache, the catalogue and the images.' }),
    address: path({
      default: '/run/nymph/control.sock',
      doc: `Unix socket of the control API, at most ${MAX_SOCKET_PATH} bytes long.`,
    }),
  },
  control: {
    listen: optional(
      listenAddress({ default: '', doc: '' }),
      (address) => address === '',
      'Address `host:port` on which metrics, health and the page are served over TCP, too; nothing can be changed there. Without it, only on the unix socket.',
    ),
    token: optional(
      path({ default: '', doc: '' }),
      (file) => file === '',
      'File with the token that the page, and all else on `listen` but metrics and health, asks for. Without it, these are refused there.',
    ),
  },
  log: {
    level: choice(['debug', 'info', 'warn', 'error'], { default: 'info', doc: 'Least level that is logged.' }),
    format: choice(['auto', 'json', 'text'], {
      default: 'auto',
      doc: '`json`: one JSON object a line. `text`: one line for people. `auto`: `text` on a terminal, else `json`.',
    }),
  },
  fuse: {
    mountpoint: path({
      default: (top) => join(dirname(top.address), 'fs'),
      defaultText: '`fs` beside `address`',
      doc: 'Where the FUSE file system with the blobs is mounted, and with `.trees` behind the name one for trees of images; nobody but nymph looks there.',
    }),
    driver: choice(['kernel', 'fuse-native'], {
      default: 'kernel',
      doc: 'How nymph speaks to FUSE: the kernel protocol itself, or libfuse through `fuse-native`.',
    }),
    threads: integer(1, 64, {
      default: Math.min(4, nodeLimits().cpus),
      defaultText: 'number of CPUs that it may use, at most 4',
      doc: 'Threads that answer reads.',
    }),
  },
  fetch: {
    deadline: duration('1s', '1h', {
      default: 60_000,
      defaultText: '`"60s"`',
      doc: 'How long a read may wait for its bytes; then it fails with EIO.',
    }),
    attempts: integer(1, 20, { default: 6, doc: 'How often one range is tried before its readers get an error.' }),
    concurrency: integer(1, 256, {
      default: 64,
      doc: 'Range requests for waiting reads at the same time, to one registry.',
    }),
    amplify: size('0', '64MiB', {
      default: 2 * 1024,
      defaultText: '`"2KiB"`',
      doc: 'A read that must fetch also takes what is missing behind it, up to this many stored bytes; `"0"` fetches only what is read.',
    }),
    window_max: size('1MiB', '1GiB', {
      default: 64 * 1024 * 1024,
      defaultText: '`"64MiB"`',
      doc: 'How far ahead of a sequential reader is fetched at most.',
    }),
    budget: optional(
      size('0', '1TiB', { default: 0, doc: '' }),
      (bytes) => bytes === 0,
      'Bytes a second that may come by requests, from all registries together. Readers wait for it only while a stream from Dragonfly may bring what they want, 5 s at most; what they take without waiting, prefetch and `pull` do without. Streams do not count. Without it there is no limit.',
    ),
    prefetch_bandwidth: optional(
      size('0', '1TiB', { default: 0, doc: '' }),
      (bytes) => bytes === 0,
      'Bytes a second that prefetch, background fills and `pull` may take, from all registries together. What readers wait for, what is fetched ahead of them, and what a start is known to need first is never held back, and does not count; nor do streams from Dragonfly, which has limits of its own. Without it there is no limit.',
    ),
    prefetch: choice(['none', 'image', 'all'], {
      default: 'image',
      doc: 'Fetched after a mount that does not say: nothing, what the image lists and what starts of it read before, or all.',
    }),
    traces: truth({
      default: true,
      doc: 'Whether the registry of an image that is mounted for the first time is asked what its starts read elsewhere (`nymph trace --push`).',
    }),
  },
  cache: {
    quota: optional(
      size('0', '1024TiB', { default: 0, doc: '' }),
      (bytes) => bytes === 0,
      'Bytes that the cache may use on disk. Without it, or with `"0"`, there is no limit but the disk.',
    ),
    low_water: integer(1, 100, {
      default: 90,
      doc: 'Percent of the quota that an eviction goes down to, so that it does not begin anew with the next chunk.',
    }),
  },
  registry: {
    config_dirs: list('paths', absolutePath, {
      default: ['/etc/containerd/certs.d', '/etc/docker/certs.d'],
      doc: 'Directories with `<host>/hosts.toml` and certificates, as containerd has them; the first that knows a host counts.',
    }),
    credentials: optional(
      path({ default: '', doc: '' }),
      (file) => file === '',
      'File with credentials in the format of Docker’s `config.json`, instead of the usual places (`~/.docker/config.json`, containers’ `auth.json`).',
    ),
    secrets_dirs: list('paths', absolutePath, {
      default: [],
      doc: 'Directories with Kubernetes pull secrets: each a mounted secret (`.dockerconfigjson`), or a directory of such.',
    }),
    plain_http: list('hosts', host, {
      default: [],
      doc: 'Registries (`host` or `host:port`) that are spoken to without TLS.',
    }),
    connect_timeout: duration('100ms', '5m', {
      default: 10_000,
      defaultText: '`"10s"`',
      doc: 'Time for a connection to be made, TLS included.',
    }),
    header_timeout: duration('100ms', '10m', {
      default: 20_000,
      defaultText: '`"20s"`',
      doc: 'Time from a request to the first byte of its answer.',
    }),
    body_timeout: duration('100ms', '10m', {
      default: 20_000,
      defaultText: '`"20s"`',
      doc: 'Longest pause between two pieces of an answer.',
    }),
  },
  policy: {
    verify: list(
      'texts',
      (value) => (typeof value === 'string' && value !== '' && !value.includes('\0') ? value : { wrong: 'a text' }),
      {
        default: [],
        doc: 'Program and arguments that say whether an image may be mounted or fetched: it is run with `host/name@sha256:…` as its last argument, and must end with 0. `["cosign", "verify", "--key", "/etc/nymph/cosign.pub"]`. Without it, all may. See [security](security.md#image-signatures).',
      },
    ),
    timeout: duration('1s', '10m', {
      default: 30_000,
      defaultText: '`"30s"`',
      doc: 'Time for that program to answer; then the image is refused.',
    }),
  },
  hub: {
    endpoints: map('addresses by scheme', httpAddress, {
      default: {},
      doc: 'Where a hub of models is asked instead of where its driver says: a mirror, `{ hf = "https://mirror.example" }`. Stronger than `HF_ENDPOINT` and `MODELSCOPE_ENDPOINT`.',
    }),
    token_files: map('paths by scheme', absolutePath, {
      default: {},
      doc: 'Files with a hub’s token and nothing else. Without one, `hf` and `modelscope` have theirs where their own programs look.',
    }),
    redirects: map('hosts by scheme', hostPatterns, {
      default: {},
      doc: 'Hosts that a hub may redirect to, besides those that its driver names: `{ hf = ["cdn.example", "*.storage.example:8443"] }`.',
    }),
  },
  containerd: {
    address: path({
      default: '/run/containerd/containerd.sock',
      doc: 'containerd’s unix socket: behind `cri.address`, for `nymph doctor`, and asked where an image came from whose puller does not say.',
    }),
    config: path({
      default: '/etc/containerd/config.toml',
      doc: 'containerd’s configuration, for `nymph doctor` and `nymph setup containerd`.',
    }),
  },
  dragonfly: {
    endpoint: optional(
      endpoint({ default: '', doc: '' }),
      (address) => address === '',
      'Where dfdaemon serves downloads: `unix:///path` or `host:port`; `"none"` leaves Dragonfly alone. Without it, `unix:///var/run/dragonfly/dfdaemon.sock` is used while it is there.',
    ),
    proxy: optional(
      proxy({ default: '', doc: '' }),
      (address) => address === '',
      'dfdaemon’s proxy, `http://host:port`, instead of its download service: for clusters that allow no more.',
    ),
    manager: optional(
      proxy({ default: '', doc: '' }),
      (address) => address === '',
      'Dragonfly’s manager, `http://host:port` (its REST port, 8080), which `nymph preheat` asks. Without it, images are preheated through dfdaemon.',
    ),
    manager_token: optional(
      path({ default: '', doc: '' }),
      (file) => file === '',
      'File with a personal access token of the manager.',
    ),
    harbor: optional(
      proxy({ default: '', doc: '' }),
      (address) => address === '',
      'Harbor, `https://host`, whose preheat policy `nymph preheat` runs.',
    ),
    harbor_policy: optional(
      text({ default: '', doc: '' }),
      (name) => name === '',
      'Name of the preheat policy, in the project that the image is in.',
    ),
    harbor_login: optional(
      path({ default: '', doc: '' }),
      (file) => file === '',
      'File with `name:secret` of a robot account of Harbor.',
    ),
    digest_ids: truth({
      default: true,
      doc: 'Whether a blob is known to Dragonfly by its digest, whatever registry it is in. Must be as in what preheats: `enableTaskIDBasedBlobDigest`.',
    }),
    tag: optional(
      text({ default: '', doc: '' }),
      (tag) => tag === '',
      'Tag of the tasks; without `digest_ids` tasks of other tags are other tasks.',
    ),
    application: optional(
      text({ default: '', doc: '' }),
      (application) => application === '',
      'Application of the tasks, by which Dragonfly gives priorities; without `digest_ids` those of other applications are other tasks.',
    ),
    piece_length: optional(
      size('4MiB', '64MiB', { default: 0, doc: '' }),
      (bytes) => bytes === 0,
      'Bytes of a piece, 4 MiB to 64 MiB, where what preheats names them: without `digest_ids` tasks with others are other tasks. Without it, dfdaemon decides by the size of a blob.',
    ),
    priority: integer(0, 6, {
      default: 6,
      doc: 'Who gets from the registry what no peer has: a seed (4 to 6, and 0), or the dfdaemon of this node (3).',
    }),
  },
  telemetry: {
    otlp: optional(
      setting('address', { default: '', doc: '' }, (value) => (value === '' ? '' : httpAddress(value))),
      (address) => address === '',
      'Collector of OpenTelemetry that is sent traces of pulls, mounts and first reads, by OTLP over HTTP: `http://collector:4318`. Without it, what `OTEL_EXPORTER_OTLP_ENDPOINT` says, if it is set.',
    ),
  },
  cri: {
    address: optional(
      path({ default: '', doc: '' }),
      (file) => file === '',
      'Unix socket for the kubelet’s `imageServiceEndpoint`: calls go on to containerd, and the logins of pulls are remembered for lazy reads. Without it there is no such socket.',
    ),
    remember: choice(['disk', 'memory'], {
      default: 'disk',
      doc: 'Where the logins of pulls are remembered: `disk` is `<root>/captured.json`, for root only; `memory` forgets them when the daemon ends, and reads of lazy images that need them fail then.',
    }),
  },
  snapshotter: {
    address: path({
      default: (top) => join(dirname(top.address), 'snapshotter.sock'),
      defaultText: '`snapshotter.sock` beside `address`',
      doc: 'Unix socket for containerd: the address of its proxy plugin.',
    }),
    alternatives: truth({
      default: true,
      doc: 'Whether an ordinary image that is pulled by a tag is mounted from the Nydus image that its index has beside it, or that refers to it.',
    }),
  },
} as const;

/** What is wrong with a socket's path, or `undefined`. */
export function wrongAddress(address: string): string | undefined {
  const length = Buffer.byteLength(address);
  return length > MAX_SOCKET_PATH
    ? `is ${length} bytes long; a socket's path has at most ${MAX_SOCKET_PATH}`
    : undefined;
}

function setting<T>(type: string, row: Row<T>, read: (value: unknown) => T | { wrong: string }): Setting<T> {
  const text = row.defaultText ?? `\`${JSON.stringify(row.default)}\``;
  return {
    type,
    default: row.default,
    defaultText: text,
    doc: row.doc,
    read: (value) => {
      const result = read(value);
      return isWrong(result) ? result : { value: result };
    },
  };
}

function isWrong(result: unknown): result is { wrong: string } {
  return typeof result === 'object' && result !== null && 'wrong' in result;
}

function optional<T>(inner: Setting<T>, absent: (value: T) => boolean, doc: string): Setting<T | undefined> {
  return setting<T | undefined>(inner.type, { default: undefined, defaultText: 'none', doc }, (value) => {
    const result = inner.read(value);
    if ('wrong' in result) return result;
    return absent(result.value) ? undefined : result.value;
  });
}

function path(row: Row<string>): Setting<string> {
  return setting('path', row, absolutePath);
}

function absolutePath(value: unknown): string | { wrong: string } {
  if (typeof value !== 'string' || !isAbsolute(value) || value.includes('\0')) return { wrong: 'an absolute path' };
  return normalize(value);
}

function endpoint(row: Row<string>): Setting<string> {
  return setting('address', row, (value) =>
    typeof value === 'string' &&
    /^(?:|none|unix:\/\/\/[^\0]+|(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5})$/.test(value)
      ? value
      : { wrong: '`unix:///path`, `host:port` or `none`' },
  );
}

function listenAddress(row: Row<string>): Setting<string> {
  return setting('address', row, (value) => {
    const match = typeof value === 'string' ? /^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})$/.exec(value) : null;
    const isPort = match !== null && Number(match[1]) >= 1 && Number(match[1]) <= 65535;
    return value === '' || isPort ? (value as string) : { wrong: '`host:port`, for example `127.0.0.1:9470`' };
  });
}

function proxy(row: Row<string>): Setting<string> {
  return setting('address', row, (value) =>
    typeof value === 'string' && /^(?:|http:\/\/(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}\/?)$/.test(value)
      ? value
      : { wrong: '`http://host:port`' },
  );
}

function text(row: Row<string>): Setting<string> {
  return setting('text', row, (value) =>
    typeof value === 'string' && !/[\0-\x1f\x7f]/.test(value) ? value : { wrong: 'a text without control characters' },
  );
}

function host(value: unknown): string | { wrong: string } {
  if (typeof value !== 'string' || !/^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/.test(value))
    return { wrong: '`host` or `host:port`, without scheme or path' };
  return value;
}

function choice<const T extends string>(values: readonly T[], row: Row<T>): Setting<T> {
  const names = values.map((value) => JSON.stringify(value)).join(', ');
  return setting(
    `one of ${names}`,
    row,
    (value) => values.find((known) => known === value) ?? { wrong: `one of ${names}` },
  );
}

function truth(row: Row<boolean>): Setting<boolean> {
  return setting('boolean', row, (value) => (typeof value === 'boolean' ? value : { wrong: '`true` or `false`' }));
}

function integer(min: number, max: number, row: Row<number>): Setting<number> {
  return setting(`integer ${min}–${max}`, row, (value) =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max
      ? (value as number)
      : { wrong: `an integer from ${min} to ${max}` },
  );
}

function size(min: string, max: string, row: Row<number>): Setting<number> {
  return setting(`size ${min}–${max}`, row, (value) => {
    const bytes =
      typeof value === 'string' ? parseSize(value) : Number.isSafeInteger(value) ? (value as number) : undefined;
    return within(bytes, parseSize(min), parseSize(max)) ?? { wrong: `a size like "64MiB", from ${min} to ${max}` };
  });
}

function duration(min: string, max: string, row: Row<number>): Setting<number> {
  return setting(`duration ${min}–${max}`, row, (value) => {
    const time = typeof value === 'string' ? parseDuration(value) : undefined;
    return (
      within(time, parseDuration(min), parseDuration(max)) ?? { wrong: `a duration like "60s", from ${min} to ${max}` }
    );
  });
}

function within(value: number | undefined, min = 0, max = Number.POSITIVE_INFINITY): number | undefined {
  return value !== undefined && value >= min && value <= max ? value : undefined;
}

/** A table from schemes of hubs to values. */
function map<T>(
  items: string,
  item: (value: unknown) => T | { wrong: string },
  row: Row<Readonly<Record<string, T>>>,
): Setting<Readonly<Record<string, T>>> {
  return setting(`table of ${items}`, { ...row, defaultText: 'none' }, (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return { wrong: `a table of ${items}` };
    const result: Record<string, T> = Object.create(null);
    for (const [scheme, entry] of Object.entries(value)) {
      const one = item(entry);
      if (!isScheme(scheme)) return { wrong: `a table of ${items}; ${JSON.stringify(scheme)} is no scheme of a hub` };
      if (isWrong(one)) return { wrong: `a table of ${items}, that of ${scheme} ${one.wrong}` };
      result[scheme] = one;
    }
    return Object.freeze({ ...result });
  });
}

function httpAddress(value: unknown): string | { wrong: string } {
  const isAddress = typeof value === 'string' && /^https?:\/\//.test(value) && URL.canParse(value);
  return isAddress ? value : { wrong: 'an address that begins with https:// or http://' };
}

function hostPatterns(value: unknown): readonly string[] | { wrong: string } {
  const wrong = { wrong: 'a list of `host`, `host:port` or `*.host`' };
  if (!Array.isArray(value)) return wrong;
  const hosts = value.map((entry) => String(entry).toLowerCase());
  return hosts.every(isHostPattern) ? Object.freeze(hosts) : wrong;
}

function list(
  items: string,
  item: (value: unknown) => string | { wrong: string },
  row: Row<readonly string[]>,
): Setting<readonly string[]> {
  return setting(`list of ${items}`, row, (value) => {
    if (!Array.isArray(value)) return { wrong: `a list of ${items}` };
    const result: string[] = [];
    for (const entry of value) {
      const one = item(entry);
      if (isWrong(one)) return { wrong: `a list of ${items}, each ${one.wrong}` };
      result.push(one);
    }
    return Object.freeze(result);
  });
}
