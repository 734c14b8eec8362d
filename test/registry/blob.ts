import { createReadStream } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Faults, type Stats, useFault } from './faults.ts';

/** Answers GET and HEAD of a blob, with ranges (RFC 9110 §14) and the faults that are set. */
export async function sendBlob(
  request: IncomingMessage,
  response: ServerResponse,
  blob: { path: string; size: number; digest: string },
  faults: Faults,
  stats: Stats,
): Promise<void> {
  const fault = useFault(faults.blob);
  if (fault?.kind === 'hang-up') {
    request.socket.destroy();
    return;
  }
  const headers: Record<string, string> = {
    'content-type': 'application/octet-stream',
    'docker-content-digest': blob.digest,
    'accept-ranges': 'bytes',
    etag: `"${blob.digest}"`,
  };
  let [first, last] = [0, blob.size - 1];
  let status = 200;
  const range = fault?.kind === 'no-ranges' ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (range) {
    first = Number(range[1]);
    last = Math.min(range[2] === '' ? last : Number(range[2]), last);
    if (first > last) {
      response.writeHead(416, { 'content-range': `bytes */${blob.size}` }).end();
      return;
    }
    if (fault?.kind === 'other-range') {
      const shift = first > 0 ? -1 : 1;
      first += shift;
      last += shift;
    }
    status = 206;
    if (fault?.kind !== 'no-content-range') headers['content-range'] = `bytes ${first}-${last}/${blob.size}`;
  }
  let length = last - first + 1;
  if (fault?.kind === 'short') length = Math.max(0, length - fault.by);
  if (fault?.kind === 'gzip') headers['content-encoding'] = 'gzip';
  if (fault?.kind !== 'extra') headers['content-length'] = String(length);
  response.writeHead(status, { ...headers, ...faults.headers });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  stats.sending++;
  response.on('close', () => stats.sending--);
  await sendBody(response, blob.path, first, length, faults, stats, fault);
}

async function sendBody(
  response: ServerResponse,
  path: string,
  first: number,
  length: number,
  faults: Faults,
  stats: Stats,
  fault: Faults['blob'],
): Promise<void> {
  const limit = fault?.kind === 'cut' || fault?.kind === 'stall' ? Math.min(fault.after, length) : length;
  const { bandwidth } = faults;
  let sent = 0;
  if (limit > 0) {
    const highWaterMark = bandwidth ? Math.max(1024, Math.min(65_536, Math.floor(bandwidth / 20))) : 512 * 1024;
    const file = createReadStream(path, { start: first, end: first + limit - 1, highWaterMark });
    for await (const piece of file as AsyncIterable<Buffer>) {
      if (response.destroyed) return;
      if (fault?.kind === 'bit-flip' && sent === 0) piece[piece.length >> 1] ^= 0x10;
      sent += piece.length;
      stats.blobBytes += piece.length;
      if (!response.write(piece)) await drained(response);
      if (bandwidth) await sleep((piece.length / bandwidth) * 1000);
    }
  }
  if (fault?.kind === 'stall') return;
  if (fault?.kind === 'cut') {
    response.destroy();
    return;
  }
  if (fault?.kind === 'extra') response.write(Buffer.alloc(fault.by, 0x55));
  response.end();
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}
