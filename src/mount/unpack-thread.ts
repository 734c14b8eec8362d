/**
 * The thread that unpacks layers: reads each once, from its first byte to its last, and on the way decodes it, keeps what
 * comes out with a digest for each chunk, and finds the files of the tar. What is not what its digest says is refused.
 */
import { createHash, hash } from 'node:crypto';
import { ftruncateSync, writeSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { decompress } from '../codec/decompress.ts';
import { NymphError } from '../errors.ts';
import { streamedTar } from '../formats/tar/bytes.ts';
import { tarMembers } from '../formats/tar/members.ts';
import { UNPACKED_CHUNK } from '../image/files.ts';
import type { FromUnpackThread, ToUnpackThread } from './unpack-messages.ts';

/** More than a layer holds: what goes on for ever ends here. */
const MOST_BYTES = 2 ** 40;

const port = parentPort!;
const send = (message: FromUnpackThread, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

/** The pieces of the layer that is being read. */
interface Inbox {
  put(piece: Uint8Array | undefined): void;
  pieces(): AsyncGenerator<Uint8Array>;
}

let inbox = createInbox();

port.on('message', (message: ToUnpackThread) => {
  if (message.type === 'begin') {
    inbox = createInbox();
    unpack(message, inbox).then(
      (done) => send(done, [done.digests.buffer as ArrayBuffer]),
      (error) => send(failed(error)),
    );
  } else inbox.put(message.type === 'piece' ? message.bytes : undefined);
});

async function unpack(
  { codec, digest, name, fd }: Extract<ToUnpackThread, { type: 'begin' }>,
  from: Inbox,
): Promise<Extract<FromUnpackThread, { type: 'done' }>> {
  const whole = createHash('sha256');
  const chunks = createChunks(fd);
  async function* stored(): AsyncGenerator<Uint8Array> {
    for await (const piece of from.pieces()) {
      whole.update(piece);
      yield piece;
    }
  }
  async function* decoded(): AsyncGenerator<Uint8Array> {
    for await (const piece of decompress(stored(), codec, name)) {
      chunks.take(piece);
      if (chunks.size > MOST_BYTES)
        throw new NymphError('unsupported', `${name} unpacks to more than ${MOST_BYTES / 2 ** 40} TiB`);
      yield piece;
    }
  }
  const tar = streamedTar(decoded());
  const members = await tarMembers(tar, name);
  // What stands behind the end has no meaning, but belongs to the stream, as does what a decoder leaves.
  while (await tar.some(Number.POSITIVE_INFINITY));
  for await (const piece of from.pieces()) whole.update(piece);
  if (`sha256:${whole.digest('hex')}` !== digest)
    throw new NymphError('corrupt', `${name} came with other bytes`, { retryable: true });
  return { type: 'done', members, ...chunks.finish() };
}

/** Cuts what comes into chunks, which get a digest and are written. */
function createChunks(fd: number | undefined) {
  const chunk = Buffer.allocUnsafeSlow(UNPACKED_CHUNK);
  const digests: Buffer[] = [];
  let used = 0;
  let written = 0;
  let reason = fd === undefined ? 'there is no place for it' : undefined;

  function flush(): void {
    if (used === 0) return;
    const bytes = chunk.subarray(0, used);
    digests.push(hash('sha256', bytes, 'buffer'));
    if (reason === undefined) write(bytes);
    written += used;
    used = 0;
  }

  function write(bytes: Buffer): void {
    try {
      for (let done = 0; done < bytes.length; )
        done += writeSync(fd!, bytes, done, bytes.length - done, written + done);
    } catch (error) {
      // A full disk: the layer is read on, and fetched again where it is needed. Others need the space now.
      reason = (error as Error).message;
      ftruncateSync(fd!, 0);
    }
  }

  return {
    get size() {
      return written + used;
    },
    take(piece: Uint8Array): void {
      for (let done = 0; done < piece.length; ) {
        const part = piece.subarray(done, done + UNPACKED_CHUNK - used);
        chunk.set(part, used);
        used += part.length;
        done += part.length;
        if (used === UNPACKED_CHUNK) flush();
      }
    },
    finish() {
      flush();
      const all = { size: written, digests: new Uint8Array(Buffer.concat(digests)), kept: reason === undefined };
      return reason === undefined ? all : { ...all, reason };
    },
  };
}

function createInbox(): Inbox {
  const waiting: (Uint8Array | undefined)[] = [];
  let wake: (() => void) | undefined;
  let ended = false;

  async function next(): Promise<Uint8Array | undefined> {
    while (waiting.length === 0 && !ended)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    const piece = waiting.shift();
    if (piece === undefined) ended = true;
    else send({ type: 'taken', bytes: piece.length });
    return piece;
  }

  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (let piece = await next(); piece !== undefined; piece = await next()) yield piece;
  }

  return {
    put(piece) {
      waiting.push(piece);
      wake?.();
    },
    pieces,
  };
}

function failed(error: unknown): FromUnpackThread {
  const known =
    error instanceof NymphError ? error : new NymphError('internal', String((error as Error).stack ?? error));
  const { code, message, hint, retryable } = known;
  return { type: 'failed', code, message, retryable, ...(hint !== undefined && { hint }) };
}
