/**
 * A stand-in for dfdaemon, for what a real one does not do on demand: it serves `DfdaemonDownload` on a unix socket, with
 * tasks, pieces and errors as client 1.5 has them, and can be told to fail. What its "peers" have is put into it; the
 * rest it gets from the origin by HTTP.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, ftruncateSync, linkSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { loadPackageDefinition, Metadata, Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import { load } from '@grpc/proto-loader';
import type { Download, DownloadAnswer, PieceMessage } from '../../src/sources/dragonfly/messages.ts';
import { taskId } from '../../src/sources/dragonfly/task.ts';
import { type DfdaemonFaults, use } from './faults.ts';

export interface DfdaemonOptions {
  socket: string;
  faults?: DfdaemonFaults;
  /** Bytes; a real daemon has at least 4 MiB. */
  pieceLength?: number;
  /** Bytes a second that come from peers. */
  rate?: number;
  /** ms until a peer's first piece. */
  delay?: number;
  links?: Links;
}

/** Whether its files are where callers have theirs: on another file system they cannot be linked, in a container links are made where nobody sees them. */
export type Links = 'here' | 'other file system' | 'unseen';

export interface Dfdaemon {
  readonly faults: DfdaemonFaults;
  readonly stats: { downloads: Download[]; stats: number; fromOrigin: number; sent: number; streams: number };
  /** What other peers have, and what this one has, by task id. */
  readonly peers: Map<string, Buffer>;
  readonly local: Map<string, Buffer>;
  rate: number;
  delay: number;
  links: Links;
  /** Cuts every connection and goes away, with or without its socket. */
  kill(leaveSocket?: boolean): void;
}

const INTERNAL = 13;
const NOT_FOUND = 5;
const PIECE_LENGTH = 4 << 20;
const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));

type Call = ServerWritableStream<{ download: Download }, DownloadAnswer>;

export async function startDfdaemon(options: DfdaemonOptions): Promise<Dfdaemon> {
  const { socket, pieceLength = PIECE_LENGTH } = options;
  const definition = await load('dragonfly/dfdaemon.proto', {
    includeDirs: [PROTO],
    longs: Number,
    oneofs: true,
    defaults: true,
  });
  // biome-ignore lint/suspicious/noExplicitAny: the tree of packages has no type
  const service = (loadPackageDefinition(definition) as any).dfdaemon.v2.DfdaemonDownload.service;
  const server = new Server({ 'grpc.max_send_message_length': -1 });
  const files: number[] = [];
  const daemon: Dfdaemon = {
    faults: options.faults ?? {},
    stats: { downloads: [], stats: 0, fromOrigin: 0, sent: 0, streams: 0 },
    peers: new Map(),
    local: new Map(),
    rate: options.rate ?? Number.POSITIVE_INFINITY,
    delay: options.delay ?? 0,
    links: options.links ?? 'here',
    kill(leaveSocket = false) {
      server.forceShutdown();
      for (const file of files.splice(0)) closeSync(file);
      rmSync(`${socket}.tasks`, { recursive: true, force: true });
      if (!leaveSocket) rmSync(socket, { force: true });
    },
  };

  function DownloadTask(call: Call): void {
    daemon.stats.streams++;
    call.once('close', () => daemon.stats.streams--);
    download(call).catch((error) => call.emit('error', error));
  }

  async function download(call: Call): Promise<void> {
    const { download } = call.request;
    daemon.stats.downloads.push(download);
    const { faults } = daemon;
    const status = use(faults.status);
    const origin = use(faults.origin);
    const stall = use(faults.stall);
    if (status !== undefined && status.after === undefined) throw status;
    if (origin !== undefined && origin.after === undefined) throw originError(origin.status, origin.header);
    if (stall?.after === -1) return;
    const found = await find(download);
    const file = link(download, found.bytes.length);
    const id = taskId(optionalOf(download));
    const longer = use(faults.longer)?.by ?? 0;
    const pieces = piecesOf(found, id);
    const base = { hostId: 'host', taskId: id, peerId: `127.0.0.1-peer-${randomUUID()}` };
    const plan = pieces.map(({ number, offset, length }) => ({ number, offset, length, digest: '' }));
    await write(call, {
      ...base,
      downloadTaskStartedResponse: { contentLength: found.bytes.length + longer, pieces: plan },
    });
    const missing = use(faults.missing)?.pieces ?? 0;
    const spoil = {
      flip: use(faults.flip),
      short: use(faults.short),
      outside: use(faults.outside),
      overlap: use(faults.overlap),
    };
    const twice = use(faults.twice) !== undefined;
    if (found.traffic === 1) await sleep(daemon.delay);
    const begun = performance.now();
    let sent = 0;
    for (const [i, piece] of pieces.slice(0, pieces.length - missing).entries()) {
      if (status?.after === i) throw status;
      if (origin?.after === i) throw originError(origin.status, origin.header);
      if (stall?.after === i) return;
      const wait = begun + (sent / daemon.rate) * 1000 - performance.now();
      if (wait > 1) await sleep(wait);
      if (call.cancelled) return;
      const { content, ...rest } = spoiled(piece, i, spoil);
      if (file !== undefined) writeSync(file, content!, 0, content!.length, piece.offset);
      const given = download.needPieceContent ? { ...rest, content } : rest;
      for (let again = twice ? 2 : 1; again > 0; again--)
        await write(call, { ...base, downloadPieceFinishedResponse: { piece: given } });
      sent += piece.length!;
      daemon.stats.sent += piece.length!;
    }
    if (stall?.after === pieces.length) return;
    daemon.local.set(id, found.bytes);
    call.end();
  }

  /** As a real one does it: before the first answer, with room for all of the object. @returns the file, if one is asked for */
  function link({ outputPath, forceHardLink }: Download, size: number): number | undefined {
    if (!outputPath) return undefined;
    if (!forceHardLink) throw { code: INTERNAL, details: 'the stand-in copies nothing' };
    if (daemon.links === 'other file system')
      throw { code: INTERNAL, details: 'Invalid cross-device link (os error 18)' };
    const own = join(`${socket}.tasks`, randomUUID());
    mkdirSync(dirname(own), { recursive: true });
    const file = openSync(own, 'w');
    ftruncateSync(file, size);
    files.push(file);
    if (daemon.links === 'here') linkSync(own, outputPath);
    rmSync(own);
    return file;
  }

  async function find(download: Download): Promise<{ bytes: Buffer; traffic: 0 | 1 | 2 }> {
    const id = taskId(optionalOf(download));
    const local = daemon.local.get(id);
    if (local !== undefined) return { bytes: local, traffic: 2 };
    const peers = daemon.peers.get(id);
    if (peers !== undefined) return { bytes: peers, traffic: 1 };
    if (download.disableBackToSource) throw { code: INTERNAL, details: 'download failed' };
    const response = await fetch(download.url, { headers: download.requestHeader }).catch((error) => {
      throw { code: INTERNAL, details: `error sending request: ${error.cause?.code}` };
    });
    if (response.status !== 200) throw originError(response.status, Object.fromEntries(response.headers));
    const bytes = Buffer.from(await response.arrayBuffer());
    daemon.stats.fromOrigin += bytes.length;
    return { bytes, traffic: 0 };
  }

  /** Within eight of each other they come in any order, as eight at a time are fetched. */
  function piecesOf({ bytes, traffic }: { bytes: Buffer; traffic: number }, id: string): PieceMessage[] {
    const pieces: PieceMessage[] = [];
    for (let offset = 0, number = 0; offset < bytes.length; offset += pieceLength, number++) {
      const content = bytes.subarray(offset, offset + pieceLength);
      const parentId =
        traffic === 1 ? `127.0.0.1-seed-1-${id.slice(0, 8)}${number % 2 === 0 ? '-seed' : ''}` : undefined;
      const digest = `crc32:${crc32(content)}`;
      pieces.push({ number, offset, length: content.length, digest, content, trafficType: traffic, parentId });
    }
    for (let i = pieces.length - 1; i > 0; i--) {
      const j = i - Math.floor(Math.random() * Math.min(8, i + 1));
      [pieces[i], pieces[j]] = [pieces[j], pieces[i]];
    }
    return pieces;
  }

  server.addService(service, {
    DownloadTask,
    StatTask(call: { request: { taskId: string } }, callback: (error: object | null, answer?: object) => void) {
      daemon.stats.stats++;
      if (daemon.faults.stall?.after === -1) return;
      const known = daemon.peers.has(call.request.taskId);
      if (known) callback(null, { id: call.request.taskId, state: 'Succeeded', peerCount: 1 });
      else
        callback({
          code: INTERNAL,
          details: `code: 'Some requested entity was not found', message: "task ${call.request.taskId} not found"`,
        });
    },
    StatLocalTask(call: { request: { taskId: string } }, callback: (error: object | null, answer?: object) => void) {
      if (daemon.faults.stall?.after === -1) return;
      const bytes = daemon.local.get(call.request.taskId);
      if (bytes === undefined) callback({ code: NOT_FOUND, details: 'task not found' });
      else callback(null, { taskId: call.request.taskId, contentLength: bytes.length, finishedAt: { seconds: 1 } });
    },
  });
  if (existsSync(socket)) rmSync(socket);
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  );
  return daemon;
}

interface Spoil {
  flip?: { piece: number };
  short?: { piece: number };
  outside?: { piece: number };
  overlap?: { piece: number };
}

function spoiled(piece: PieceMessage, at: number, { flip, short, outside, overlap }: Spoil): PieceMessage {
  if (flip?.piece === at) {
    const content = Buffer.from(piece.content!);
    content[content.length >> 1] ^= 1;
    return { ...piece, content };
  }
  if (short?.piece === at) return { ...piece, content: piece.content!.subarray(1) };
  if (outside?.piece === at) return { ...piece, offset: 2 ** 40 };
  if (overlap?.piece === at) return { ...piece, offset: Math.abs(piece.offset! - 1) };
  return piece;
}

function originError(status: number, header: Record<string, string> = {}): object {
  const metadata = new Metadata();
  const details = JSON.stringify({ message: `status ${status}`, header, status_code: status });
  metadata.set('grpc-status-details-bin', Buffer.from(details));
  return { code: INTERNAL, details: 'backend error', metadata };
}

/** proto-loader's defaults give empty texts and zeros where a real daemon sees that nothing was sent. */
function optionalOf(download: Download): Download {
  const { tag, application, pieceLength, ...rest } = download;
  return { ...rest, ...(tag && { tag }), ...(application && { application }), ...(pieceLength && { pieceLength }) };
}

function write(call: Call, answer: DownloadAnswer): Promise<void> {
  if (call.cancelled || call.write(answer)) return Promise.resolve();
  return new Promise((resolve) => {
    const go = () => {
      call.off('drain', go).off('cancelled', go).off('close', go);
      resolve();
    };
    call.on('drain', go).on('cancelled', go).on('close', go);
  });
}
