/**
 * The thread that checks whole files: hashes what is here of each from its beginning on, while it is still coming, so
 * that the digest is known soon after the last byte. 1.9 GB/s with SHA-256; it steps back behind everybody else.
 */
import { createHash, type Hash } from 'node:crypto';
import { readSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { attachReadyMap, countClears, isReady, type ReadyMap } from '../cache/ready-map.ts';
import type { WholeDigest } from '../image/image.ts';
import { createPieceChecks, type PieceChecks } from './piece-checks.ts';
import type { FromWholeThread, ToWholeThread } from './whole-messages.ts';

interface Followed {
  readonly ino: number;
  readonly fd: number;
  readonly size: number;
  readonly map: ReadyMap;
  readonly algorithm: WholeDigest['algorithm'];
  readonly pieces?: PieceChecks;
  hash: Hash;
  position: number;
  clears: number;
}

const SLICE = 1 << 20;
const NICE = 10;

const port = parentPort!;
const files = new Map<number, Followed>();
/** Files of which more may be here, the longest waiting first. */
const waiting = new Set<number>();
const buffer = Buffer.allocUnsafeSlow(SLICE);
let working = false;

const send = (message: FromWholeThread) => port.postMessage(message);

// With Linux this is about the thread that calls.
setPriority(0, NICE);

port.on('message', (message: ToWholeThread) => {
  const { ino } = message;
  if (message.type === 'leave') {
    files.delete(ino);
    waiting.delete(ino);
    send({ type: 'left', ino });
    return;
  }
  if (message.type === 'follow') {
    const { fd, size, algorithm } = message;
    const map = attachReadyMap(message.ready);
    const pieces = message.pieces && createPieceChecks(message.pieces, map);
    files.set(ino, begin({ ino, fd, size, algorithm, map, ...(pieces && { pieces }) }));
  }
  waiting.add(ino);
  if (!working) void work();
});

function begin(file: Omit<Followed, 'hash' | 'position' | 'clears'>): Followed {
  const { algorithm, size, map } = file;
  const hash = createHash(algorithm === 'sha256' ? 'sha256' : 'sha1');
  if (algorithm === 'git-sha1') hash.update(`blob ${size}\0`);
  return { ...file, hash, position: 0, clears: countClears(map) };
}

async function work(): Promise<void> {
  working = true;
  for (const ino of waiting) {
    const file = files.get(ino);
    waiting.delete(ino);
    if (file !== undefined && goOn(file)) waiting.add(ino);
    // Messages are taken between slices.
    await othersTurn();
  }
  working = false;
}

/** @returns true if there is more to do at once */
function goOn(file: Followed): boolean {
  const { ino, size, map } = file;
  try {
    // First, because a piece that is wrong can be had again at once.
    if (checkPiece(file)) return true;
    if (countClears(map) !== file.clears) {
      // What was hashed is not all there any more.
      files.set(ino, begin(file));
      return true;
    }
    const length = Math.min(SLICE, size - file.position);
    if (!isReady(map, file.position, length)) return false;
    const bytes = read(file, file.position, length);
    file.hash.update(bytes);
    file.position += bytes.length;
  } catch (error) {
    files.delete(ino);
    send({ type: 'failed', ino, error: (error as Error).message });
    return false;
  }
  if (file.position < size) return true;
  files.delete(ino);
  send({ type: 'hashed', ino, hex: file.hash.digest('hex'), clears: file.clears });
  return false;
}

/** @returns true if there was one to go on with */
function checkPiece(file: Followed): boolean {
  const found = file.pieces?.step((offset, length) => read(file, offset, length));
  if (found?.wrong !== undefined) {
    const { offset, size } = found.wrong;
    send({ type: 'piece', ino: file.ino, offset, size, again: found.again === true });
  }
  return found?.done === true;
}

function read({ fd }: Followed, offset: number, length: number): Uint8Array {
  const got = readSync(fd, buffer, 0, length, offset);
  if (got === 0) throw new Error(`the file ends at byte ${offset}`);
  return buffer.subarray(0, got);
}
