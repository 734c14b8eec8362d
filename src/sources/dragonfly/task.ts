import { createHash, X509Certificate } from 'node:crypto';
import type { ObjectLocation } from '../swarm.ts';
import type { Download } from './messages.ts';

/** What makes nodes name a task alike; `[dragonfly]` of the configuration. */
export interface TaskSettings {
  tag?: string;
  application?: string;
  /** 0 to 6. */
  priority: number;
  /** Bytes. */
  pieceLength?: number;
  /** A blob's digest is its task's id. */
  digestIds: boolean;
}

/**
 * Names in queries that do not count for a task's id: what signs addresses. dfdaemon has this list for its proxy and for
 * dfget, and none for callers like us; who shares tasks with those must send the same.
 */
export const FILTERED_QUERY_PARAMS: readonly string[] = [
  ...['Algorithm', 'Credential', 'Date', 'Expires', 'SignedHeaders', 'Signature', 'Security-Token', 'User-Agent'].map(
    (name) => `X-Amz-${name}`,
  ),
  ...['Algorithm', 'Credential', 'Date', 'Expires', 'SignedHeaders', 'Signature'].map((name) => `X-Goog-${name}`),
  ...['OSSAccessKeyId', 'Expires', 'Signature', 'SecurityToken', 'AccessKeyId', 'X-Obs-Date', 'X-Obs-Security-Token'],
  ...['sign-algorithm', 'ak', 'sign-time', 'key-time', 'header-list', 'url-param-list', 'signature'].map(
    (name) => `q-${name}`,
  ),
  'x-cos-security-token',
  'ns',
];

/** Asks for a whole object, as a stream of its pieces. @param needPieceContent with their bytes */
export function downloadOf(
  digest: string,
  { url, headers, certificates }: ObjectLocation,
  { tag, application, priority, pieceLength, digestIds }: TaskSettings,
  peersOnly: boolean,
  needPieceContent: boolean,
): Download {
  return {
    url: url.href,
    digest,
    type: 0,
    ...(tag === undefined ? {} : { tag }),
    ...(application === undefined ? {} : { application }),
    ...(pieceLength === undefined ? {} : { pieceLength }),
    priority,
    filteredQueryParams: FILTERED_QUERY_PARAMS,
    // Bytes that are encoded for whoever asked first would be kept for all.
    requestHeader: { ...headers, 'accept-encoding': 'identity' },
    disableBackToSource: peersOnly,
    certificateChain: certificates.flatMap(derOf),
    needPieceContent,
    enableTaskIdBasedBlobDigest: digestIds,
  };
}

const BLOB_URL = /^.*:\/\/.*\/v2\/.*\/blobs\/([^?]+)(?:\?.*)?$/;

/** The id that dfdaemon gives to a task (client 1.4 and later). */
export function taskId({
  url,
  tag,
  application,
  pieceLength,
  filteredQueryParams,
  enableTaskIdBasedBlobDigest,
}: Pick<
  Download,
  'url' | 'tag' | 'application' | 'pieceLength' | 'filteredQueryParams' | 'enableTaskIdBasedBlobDigest'
>): string {
  const digest = enableTaskIdBasedBlobDigest ? BLOB_URL.exec(url)?.[1] : undefined;
  if (digest !== undefined && /^\w+:[0-9a-f]+$/.test(digest)) return digest.slice(digest.indexOf(':') + 1);
  const hash = createHash('sha256').update(filteredUrl(url, filteredQueryParams));
  for (const part of [tag, application, pieceLength]) if (part !== undefined) hash.update(String(part));
  return hash.update('STANDARD').digest('hex');
}

function filteredUrl(text: string, filtered: readonly string[]): string {
  const url = new URL(text);
  const kept = [...url.searchParams].filter(([name]) => !filtered.includes(name));
  url.search = new URLSearchParams(kept).toString();
  return url.pathname === '/' && url.href.endsWith('/') ? url.href.slice(0, -1) : url.href;
}

function derOf(pem: string): Uint8Array[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block).raw);
}
