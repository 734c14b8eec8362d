import { isAbsolute } from 'node:path';
import { NymphError } from '../errors.ts';
import { PREHEAT_SCOPES } from '../sources/dragonfly/manager.ts';
import {
  type MountOptions,
  type MountRequest,
  PREHEAT_WAYS,
  type PrefetchRequest,
  type PreheatRequest,
  type PruneRequest,
  type PullRequest,
  type VerifyRequest,
} from './api.ts';
import { parseSubset } from './subset.ts';

/** What clients send, checked: JSON of any shape becomes a request or an error `usage`. Fields that we do not know are left out. */

const MOST_CELLS = 4096;
const VIA = ['auto', 'erofs', 'fuse'] as const;
const PREFETCH = ['none', 'image', 'all'] as const;

export function mountRequest(body: unknown): MountRequest {
  const { reference, directory, options } = fields(body);
  return { reference: text(reference, 'reference'), directory: path(directory), options: mountOptions(options) };
}

export function pullRequest(body: unknown): PullRequest {
  const { reference, platform, subset } = fields(body);
  return {
    reference: text(reference, 'reference'),
    platform: optionalText(platform, 'platform'),
    ...optionalSubset(subset),
  };
}

export function prefetchRequest(body: unknown): PrefetchRequest {
  const { target, platform, digest, trace, files } = fields(body);
  if (trace === undefined && files === undefined) throw wrong('the request', 'with a trace, or with files');
  if (files !== undefined && (!Array.isArray(files) || files.length === 0))
    throw wrong('files', 'a list of paths that is not empty');
  return {
    target: text(target, 'target'),
    platform: optionalText(platform, 'platform'),
    digest: optionalText(digest, 'digest'),
    trace: optionalText(trace, 'trace'),
    files: files && [...new Set(files.map((file: unknown) => text(file, 'each of files')))],
  };
}

/** Of the map of an image; 0 without one. */
export function cellsOf(query: URLSearchParams): number {
  const cells = Number(query.get('cells') ?? 0);
  if (Number.isInteger(cells) && cells >= 0 && cells <= MOST_CELLS) return cells;
  throw wrong('cells', `an integer from 0 to ${MOST_CELLS}`);
}

export function preheatRequest(body: unknown): PreheatRequest {
  const { reference, platform, scope, via } = fields(body);
  return {
    reference: text(reference, 'reference'),
    platform: optionalText(platform, 'platform'),
    scope: oneOf(PREHEAT_SCOPES, scope, 'scope'),
    via: oneOf(PREHEAT_WAYS, via, 'via'),
  };
}

export function verifyRequest(body: unknown): VerifyRequest {
  const { target, platform, cachedOnly } = fields(body);
  if (cachedOnly !== undefined && typeof cachedOnly !== 'boolean') throw wrong('cachedOnly', 'true or false');
  return { target: text(target, 'target'), platform: optionalText(platform, 'platform'), cachedOnly };
}

export function pruneRequest(body: unknown): PruneRequest {
  const { target, force } = fields(body);
  if (target !== undefined && (!Number.isSafeInteger(target) || (target as number) < 0))
    throw wrong('target', 'a number of bytes');
  if (force !== undefined && typeof force !== 'boolean') throw wrong('force', 'true or false');
  return { ...(target !== undefined && { target: target as number }), ...(force !== undefined && { force }) };
}

function mountOptions(value: unknown): MountOptions {
  const { platform, prefetch, via, strict, subset } = value === undefined ? {} : fields(value, 'options');
  if (strict !== undefined && typeof strict !== 'boolean') throw wrong('strict', 'true or false');
  return {
    platform: optionalText(platform, 'platform'),
    prefetch: oneOf(PREFETCH, prefetch, 'prefetch'),
    via: oneOf(VIA, via, 'via'),
    ...(strict !== undefined && { strict }),
    ...optionalSubset(subset),
  };
}

function optionalSubset(value: unknown): { subset?: string[] } {
  if (value === undefined) return {};
  if (!Array.isArray(value)) throw wrong('subset', 'a list of texts');
  return { subset: parseSubset(value.map((word) => text(word, 'each of subset')).join(',')) };
}

function oneOf<T extends string>(choices: readonly T[], value: unknown, name: string): T | undefined {
  const known = choices.find((choice) => choice === value);
  if (value !== undefined && known === undefined) throw wrong(name, `one of ${choices.join(', ')}`);
  return known;
}

function fields(value: unknown, name = 'the request'): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw wrong(name, 'a JSON object');
}

function text(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw wrong(name, 'a text that is not empty');
}

function optionalText(value: unknown, name: string): string | undefined {
  return value === undefined ? undefined : text(value, name);
}

/** The daemon has another working directory than its client. */
function path(value: unknown): string {
  if (typeof value === 'string' && isAbsolute(value) && !value.includes('\0')) return value;
  throw wrong('directory', 'an absolute path');
}

function wrong(name: string, expected: string): NymphError {
  return new NymphError('usage', `the control API was asked wrongly: ${name} must be ${expected}`);
}
