/**
 * From what a source gives to a checked image: bootstrap layers, blobs with their bootstrap inside, ToCs, chunk
 * information with batches, inflate contexts and encryption. Then some frames are decoded.
 */
import { decrypt } from '../../../src/codec/decrypt.ts';
import { decodeFrame } from '../../../src/codec/frame.ts';
import { inflateFrom } from '../../../src/codec/inflate.ts';
import { NymphError } from '../../../src/errors.ts';
import { TAIL_SIZE } from '../../../src/formats/rafs/toc.ts';
import { tarHeader, tarOf } from '../../../src/formats/rafs/write/tar.ts';
import { type Blob, CODECS } from '../../../src/image/image.ts';
import { run } from '../../../src/mount/load-job.ts';
import { type LoadInput, type LoadRequest, rangeKey } from '../../../src/mount/load-types.ts';
import { builtExample, encryptedExample, zranExample } from '../built-images.ts';
import { exampleBootstrapsV5 } from '../example-images.ts';
import { checkAccepted } from '../image-checks.ts';
import { joinParts, splitParts } from '../parts.ts';
import { sumTarHeaders } from '../tar-sums.ts';
import { ensure, type Target } from '../target.ts';

const KINDS: readonly LoadInput['kind'][] = ['layer', 'bootstrap', 'tail'];
const BLOB_ID = 'e'.repeat(64);
/** How often more may be asked for. */
const MOST_ROUNDS = 3;
const MOST_FRAMES = 3;

/** The kind; the layer or bootstrap; the object of each blob. */
const input = (kind: LoadInput['kind'], bytes: Uint8Array, object: Uint8Array = Buffer.alloc(0)) =>
  joinParts(Buffer.from([KINDS.indexOf(kind)]), bytes, object);

export const target: Target = {
  name: 'load',
  errors: ['corrupt', 'unsupported', 'not-found'],
  limit: 96 << 10,
  async seeds() {
    const batches = await builtExample({ batchSize: 4096 });
    const plain = await builtExample({ compressor: 'lz4_block', toc: false, digester: 'sha256' });
    const examples = [
      batches,
      plain,
      await encryptedExample({ batchSize: 4096 }),
      await encryptedExample({ compressor: 'none' }),
      zranExample({}),
      zranExample({ toc: true, metaInLayer: false }),
    ];
    const layers = [batches, examples[4]].map(({ bootstrap, meta, id }) =>
      tarOf([
        { name: 'image/', content: null },
        { name: 'image/image.boot', content: bootstrap },
        { name: `image/${id}.blob.meta`, content: meta },
      ]),
    );
    const [v5] = exampleBootstrapsV5();
    const whole = Buffer.concat([
      v5.subarray(0, 10),
      tarHeader('image.blob', 10),
      v5,
      tarHeader('image.boot', v5.length),
    ]);
    return [
      ...examples.map(({ bootstrap, object }) => input('bootstrap', bootstrap, object)),
      ...layers.map((layer, i) => input('layer', layer, examples[i * 4].object)),
      input('tail', Buffer.alloc(0), whole),
      input('tail', Buffer.alloc(0), batches.object),
    ];
  },
  repair: sumTarHeaders,
  run(bytes) {
    const [kind, first, object] = splitParts(bytes, 3);
    const request: LoadRequest = {
      input: inputOf(kind[0] ?? 0, first, object),
      sizes: sizesOf(first, object),
      ranges: new Map(),
    };
    for (let round = 0; ; round++) {
      ensure(round < MOST_ROUNDS, 'it asks again and again');
      const { output } = run(request);
      if (output.type === 'done') {
        const { image, bootstrap, description } = output.loaded;
        for (const blob of image.blobs) decodeSome(blob, object);
        return checkAccepted(bootstrap, image, description.counts);
      }
      ensure(output.ranges.length > 0, 'it needs nothing, and is not done');
      for (const range of output.ranges) {
        const { offset, length } = range;
        ensure(
          Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0,
          `a range of ${length} bytes at ${offset}`,
        );
        // A source has no such bytes, and says so.
        if (offset + length > object.length) return 'needs bytes that are not there';
        request.ranges.set(rangeKey(range), object.subarray(offset, offset + length));
      }
    }
  },
};

function inputOf(kind: number, bytes: Buffer, object: Buffer): LoadInput {
  const name = KINDS[kind % KINDS.length];
  if (name === 'tail')
    return { kind: name, bytes: object.subarray(-TAIL_SIZE), blobId: BLOB_ID, objectSize: object.length };
  return { kind: name, bytes: Uint8Array.from(bytes) };
}

/** The manifest knows the sizes of all objects; here all are the same one. */
function sizesOf(bytes: Buffer, object: Buffer): Map<string, number> {
  const ids = bytes.toString('latin1').match(/[0-9a-f]{64}/g) ?? [];
  return new Map(ids.slice(0, 16).map((id) => [id, object.length]));
}

function decodeSome(blob: Blob, object: Buffer): void {
  const { frames, cipher } = blob;
  for (let i = 0; i < Math.min(frames.count, MOST_FRAMES); i++) {
    const stored = object.subarray(frames.offset[i], frames.offset[i] + frames.size[i]);
    if (stored.length < frames.size[i]) continue;
    const size = frames.decodedSize[i];
    const codec = CODECS[frames.codec[i]];
    try {
      if (frames.contexts) {
        const { bits, value, dictionaryOffset, dictionarySize } = frames.contexts;
        const dictionary = blob.dictionaries!.subarray(dictionaryOffset[i], dictionaryOffset[i] + dictionarySize[i]);
        ensure(
          inflateFrom({ bits: bits[i], value: value[i], dictionary }, stored, size).length === size,
          'another size',
        );
        continue;
      }
      const plain = cipher ? decrypt(cipher, stored, codec === 'none' ? size : undefined) : stored;
      ensure(decodeFrame(codec, plain, size).length === size, 'another size');
    } catch (error) {
      if (!(error instanceof NymphError)) throw error;
    }
  }
}
