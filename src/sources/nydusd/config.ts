import { parse, TomlError } from 'smol-toml';
import { NymphError } from '../../errors.ts';
import type { Backend } from './backend.ts';
import { type Fields, fieldsOf, type IdleKey } from './fields.ts';
import { parseBackend } from './parse-backend.ts';

/** What counts of a configuration of nydusd, and what does not. */
export interface NydusdConfig {
  readonly backend: Backend;
  /** What to fetch in the background; absent where the file does not say. */
  readonly prefetch?: 'none' | 'image' | 'all';
  /** Bytes that a read takes along of what lies beside it (`amplify_io`). */
  readonly amplify?: number;
  readonly idle: readonly IdleKey[];
}

/** As nydusd has it. */
export const CONFIG_LIMIT = 1024 * 1024;
const LARGEST_AMPLIFY = 256 * 1024 * 1024;
const LARGEST = 0xffff_ffff;

const VERIFIED = 'chunks are always verified';
const OWN_CACHE = 'the cache is nymph’s own, in its root; see cache.quota';
const NOT_RECORDED = 'nymph does not record reads by file; `nymph status` has counts';
const REASONS: Record<string, string> = {
  id: 'nymph names mounts by their directories',
  mode: 'the kernel holds the tree',
  digest_validate: VERIFIED,
  validate: VERIFIED,
  iostats_files: NOT_RECORDED,
  access_pattern: NOT_RECORDED,
  latest_read_files: NOT_RECORDED,
  enable_xattr: 'extended attributes are always there',
  external_backends: 'all blobs come from the one backend',
  overlay: 'mounts are read-only; put an overlay on top',
};
const CACHE_REASONS: Record<string, string> = {
  type: OWN_CACHE,
  compressed: 'the cache holds chunks as they are read',
  validate: VERIFIED,
  config: OWN_CACHE,
  filecache: OWN_CACHE,
  fscache: 'nymph mounts EROFS over files, without fscache',
  prefetch: 'prefetching is set for the file system (fs_prefetch, rafs.prefetch)',
};
const THREADS = 'nymph has 4 background requests at once';
const BATCH = 'background requests are of 4 MiB';
const RATE = 'background requests give way to readers; there is no other limit';
const PREFETCH_REASONS: Record<string, string> = {
  threads_count: THREADS,
  threads: THREADS,
  merging_size: BATCH,
  batch_size: BATCH,
  bandwidth_rate: RATE,
  bandwidth_limit: RATE,
  stream_prefetch: 'background requests read blobs in order anyway',
};

/**
 * Reads a configuration of nydusd: JSON with `device` (version 1), JSON or TOML with `version = 2` (nydus
 * `docs/nydusd.md`, `api/src/config.rs`).
 * @param file for errors
 * @throws NymphError `config`, naming the key; `unsupported` for a backend that nymph does not have
 */
export function parseNydusdConfig(text: string, file: string): NydusdConfig {
  const idle: IdleKey[] = [];
  const top = fieldsOf(parseDocument(text, file), file, '', idle);
  const version = top.integer('version', LARGEST);
  const device = version === undefined ? top.object('device') : undefined;
  if (version !== undefined && version !== 2) throw top.wrong('version', 'is not 2');
  if (version === undefined && device === undefined)
    throw new NymphError('config', `${file} is no configuration of nydusd: it has neither \`device\` nor \`version\``, {
      hint: 'With --bootstrap, --config names nydusd’s configuration; nymph’s own is read from /etc/nymph/config.toml, or name nydusd’s with --nydusd-config.',
    });
  const place = device ?? top;
  const section = place.object('backend');
  if (section === undefined) throw place.wrong('backend', 'is missing');
  const backend = parseBackend(section, device === undefined);
  place.object('cache')?.idle(CACHE_REASONS);
  const rafs = device === undefined ? top.object('rafs') : top;
  const amplify = rafs?.integer(device === undefined ? 'batch_size' : 'amplify_io', LARGEST_AMPLIFY);
  const ahead = rafs?.object(device === undefined ? 'prefetch' : 'fs_prefetch');
  // In version 1 everything is fetched unless the file says otherwise.
  const prefetch = ahead && parsePrefetch(ahead, device !== undefined);
  for (const fields of new Set([top, place, rafs])) fields?.idle(REASONS);
  return {
    backend,
    ...(prefetch === undefined ? {} : { prefetch }),
    ...(amplify === undefined ? {} : { amplify }),
    idle,
  };
}

function parsePrefetch(fields: Fields, allByDefault: boolean): 'none' | 'image' | 'all' {
  const enabled = fields.flag('enable') ?? false;
  const all = fields.flag('prefetch_all') ?? allByDefault;
  fields.idle(PREFETCH_REASONS);
  if (!enabled) return 'none';
  return all ? 'all' : 'image';
}

/** Neither the text nor the parser's words are shown: they quote what is written there, secrets too. */
function parseDocument(text: string, file: string): unknown {
  if (text.length > CONFIG_LIMIT) throw new NymphError('config', `${file} has more than ${CONFIG_LIMIT} bytes`);
  if (/^\s*\{/.test(text)) {
    try {
      return JSON.parse(text);
    } catch (error) {
      const at = /position (\d+)/.exec((error as Error).message)?.[1];
      throw new NymphError('config', `${file}${at === undefined ? '' : `:${lineOf(text, Number(at))}`}: no valid JSON`);
    }
  }
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new NymphError('config', `${file}:${error.line}:${error.column}: neither JSON nor valid TOML`);
  }
}

function lineOf(text: string, position: number): number {
  return text.slice(0, position).split('\n').length;
}
