import { isDeepStrictEqual } from 'node:util';
import { NymphError } from '../../errors.ts';
import type { Endpoint } from '../http/endpoint.ts';
import { type HttpNetwork, send } from '../http/network.ts';
import { openRanged } from '../http/ranged.ts';
import { isRedirect, MAX_HOPS, redirectTarget, tooManyHops } from '../http/redirect.ts';
import type { HttpResponse } from '../http/request.ts';
import { cancelled } from '../retry.ts';
import type { Source } from '../source.ts';
import { type Bucket, encodeKey } from './bucket.ts';
import { readRefusal, refusalError, STORAGE_ERRORS, type StorageRefusal } from './errors.ts';
import { signOss } from './signature-oss.ts';
import { signV4 } from './signature-v4.ts';

/** The objects of one bucket. */
export interface ObjectStorage {
  /** Opens an object for range reads; its name is the bucket's prefix and `key`. */
  open(key: string, what: string, size: number | undefined): Source;
}

/** What the storage has told us of itself, for all objects of the bucket. */
interface Learnt {
  /** What its clock is ahead of ours, ms. */
  skew: number;
  region: string;
  /** `host` or `host:port`; another one than the bucket's after a redirect. */
  endpoint: string;
  /** The bucket's name is in the host's name, and not the first part of the path. */
  hosted: boolean;
}

const FIRST_REGION = 'us-east-1';
/** Storages that take the bucket in the host's name alone: OSS, OBS, TOS. */
const HOSTED_ONLY = new Set(['SecondLevelDomainForbidden', 'VirtualHostDomainRequired', 'InvalidPathAccess']);
/** Storages that send from one of their hosts to another. */
const PROVIDERS = ['.amazonaws.com', '.amazonaws.com.cn', '.aliyuncs.com'];
/** Clocks are told apart by whole seconds. */
const SAME_TIME = 5_000;
/** A hundred years: who is further away has no clock, and such a time may not even be a date. */
const MOST_SKEW = 100 * 366 * 24 * 3_600_000;

/**
 * Opens a bucket; no request is made.
 * @param endpoints who may be asked, in order: the storage itself, maybe through a proxy. Their addresses do not count,
 * except for the scheme
 * @param settings where its keys come from, for hints
 */
export function openBucket(
  network: HttpNetwork,
  bucket: Bucket,
  endpoints: () => Promise<readonly Endpoint[]>,
  settings: string,
): ObjectStorage {
  const learnt: Learnt = {
    skew: 0,
    region: bucket.region ?? FIRST_REGION,
    endpoint: bucket.endpoint,
    hosted: bucket.kind === 'oss' && !isAddress(bucket.endpoint),
  };

  async function request(
    endpoint: Endpoint,
    key: string,
    range: Record<string, string>,
    what: string,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    let url = addressOf(bucket, learnt, endpoint.url.protocol, key);
    let own = url;
    // Each remedy is used once for a request: the clock, the region, the host, the way to name the bucket.
    for (let hop = 0; hop <= MAX_HOPS; hop++) {
      const known = { ...learnt };
      const headers = { ...range, ...(isTrusted(own, url) ? sign(url, key) : {}) };
      const response = await send(network, { method: 'GET', url, headers }, endpoint, STORAGE_ERRORS, what, signal);
      if (response.status < 300 || response.status === 416) return response;
      if (isRedirect(response) && response.header('location') !== undefined) {
        url = await redirectTarget(response, url, what);
        continue;
      }
      const refusal = await readRefusal(response);
      if (signal.aborted) throw cancelled(what);
      learn(bucket, learnt, refusal);
      // Another request may have learnt it meanwhile: what counts is what this one knew.
      if (isDeepStrictEqual(known, learnt)) throw refusalError(refusal, what, url.host, bucket.name, settings);
      network.log.debug({ host: url.host, code: refusal.code }, 'the object storage wants to be asked otherwise');
      own = addressOf(bucket, learnt, endpoint.url.protocol, key);
      url = own;
    }
    throw tooManyHops(url.host, what);
  }

  function sign(url: URL, key: string): Record<string, string> {
    const { keys } = bucket;
    if (keys === undefined) return {};
    const time = new Date(Date.now() + learnt.skew);
    if (bucket.kind === 'oss') {
      const resource = `/${bucket.name}/${key}`;
      return signOss({ method: 'GET', resource, headers: {}, keys, time });
    }
    // Not the range: a peer-to-peer proxy fetches other ranges than it was asked for. Chunks have digests.
    return signV4({ method: 'GET', url, headers: {}, keys, region: learnt.region, service: 's3', time });
  }

  return {
    open(name, what, size) {
      const key = bucket.prefix + name;
      return openRanged<Endpoint>(network, {
        name: bucket.endpoint,
        what,
        size,
        errors: STORAGE_ERRORS,
        endpoints,
        request: (endpoint, headers, signal) => request(endpoint, key, headers, what, signal),
      });
    },
  };
}

function addressOf(bucket: Bucket, learnt: Learnt, protocol: string, key: string): URL {
  const { endpoint, hosted } = learnt;
  const place = hosted ? `${bucket.name}.${endpoint}` : `${endpoint}/${bucket.name}`;
  const text = `${protocol}//${place}/${encodeKey(key)}`;
  if (!URL.canParse(text)) throw new NymphError('config', `${place} cannot be the address of a bucket`);
  return new URL(text);
}

function learn(bucket: Bucket, learnt: Learnt, refusal: StorageRefusal): void {
  const { code, region, endpoint, time } = refusal;
  if (code === 'RequestTimeTooSkewed' && time !== undefined) {
    const skew = time - Date.now();
    if (Math.abs(skew - learnt.skew) > SAME_TIME && Math.abs(skew) < MOST_SKEW) learnt.skew = skew;
  }
  if (bucket.kind === 's3' && region !== undefined) learnt.region = region;
  if (HOSTED_ONLY.has(code) && !isAddress(learnt.endpoint)) learnt.hosted = true;
  if (endpoint !== undefined && isRedirectCode(refusal)) {
    const own = `${bucket.name}.`;
    const host = endpoint.startsWith(own) ? endpoint.slice(own.length) : endpoint;
    if (isRelated(hostname(bucket.endpoint), hostname(host))) {
      learnt.endpoint = host;
      learnt.hosted = endpoint.startsWith(own);
    }
  }
}

function isRedirectCode({ status, code }: StorageRefusal): boolean {
  return status === 301 || status === 307 || code === 'PermanentRedirect' || code === 'AccessDenied';
}

/** Signatures and session tokens go to the storage itself, never to another host, and never without TLS where it has it. */
function isTrusted(own: URL, url: URL): boolean {
  if (url.origin === own.origin) return true;
  return url.protocol === own.protocol && url.port === own.port && isRelated(own.hostname, url.hostname);
}

function isRelated(mine: string, other: string): boolean {
  if (other === mine || (!isAddress(mine) && other.endsWith(`.${mine}`))) return true;
  return PROVIDERS.some((domain) => mine.endsWith(domain) && other.endsWith(domain));
}

function hostname(host: string): string {
  return host.replace(/:\d+$/, '');
}

/** True for an address instead of a name: nothing can stand before it. */
function isAddress(endpoint: string): boolean {
  return /^[\d.]+$|^\[/.test(hostname(endpoint)) || hostname(endpoint) === 'localhost';
}
