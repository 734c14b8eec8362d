/** The end of blobs: tar headers behind their data, the table of contents, and what it leads to. */
import { digestOf } from '../../../src/codec/digest.ts';
import { decodeMember, findBootstrapInBlob, TAIL_SIZE } from '../../../src/formats/rafs/toc.ts';
import { tarHeader } from '../../../src/formats/rafs/write/tar.ts';
import { builtExample } from '../built-images.ts';
import { joinParts, splitParts } from '../parts.ts';
import { sumTarHeaders } from '../tar-sums.ts';
import { ensure, type Target } from '../target.ts';

const LIMIT = 1 << 20;
const ENTRY = 128;

/** How much the object is larger than its end (i32), and the end. */
function input(before: number, tail: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeBigInt64LE(BigInt(before));
  return joinParts(head, tail);
}

function withBootstrap(): Buffer {
  const bootstrap = Buffer.alloc(600, 'b');
  const entry = Buffer.alloc(ENTRY);
  entry.writeUInt32LE(1, 0);
  entry.write('image.boot', 8, 'latin1');
  entry.set(digestOf('sha256', bootstrap), 24);
  entry.writeBigUInt64LE(BigInt(bootstrap.length), 64);
  entry.writeBigUInt64LE(BigInt(bootstrap.length), 72);
  return Buffer.concat([
    bootstrap,
    tarHeader('image.boot', bootstrap.length),
    entry,
    tarHeader('rafs.blob.toc', ENTRY),
  ]);
}

export const target: Target = {
  name: 'toc',
  async seeds() {
    const { object } = await builtExample({});
    const inline = Buffer.concat([Buffer.alloc(600, 'b'), tarHeader('image.boot', 600)]);
    const tails = [object.subarray(-TAIL_SIZE), withBootstrap(), inline];
    return tails.map((tail, i) => input(i === 0 ? object.length - tail.length : 0, tail));
  },
  errors: ['corrupt', 'unsupported', 'not-found'],
  limit: 8 << 10,
  words: ['rafs.blob.toc', 'image.boot', 'blob.meta', 'blob.meta.header', 'image.blob', '77777777777'],
  repair: (bytes) => sumTarHeaders(bytes.subarray(bytes.length % 512)),
  run(bytes) {
    const [head, end] = splitParts(bytes, 2);
    const before = head.length < 8 ? 0 : Number(head.readBigInt64LE() & 0xff_ffff_ffffn);
    const tail = end.subarray(-TAIL_SIZE);
    const objectSize = before + tail.length;
    const found = findBootstrapInBlob(tail, objectSize);
    let decoded = 0;
    for (const member of Object.values(found)) {
      if (member === undefined) continue;
      const { offset, compressedSize } = member;
      ensure(offset >= 0 && offset + compressedSize <= objectSize, `${member.name} is outside of the object`);
      if (offset < before) continue;
      const content = decodeMember(member, tail.subarray(offset - before, offset - before + compressedSize), LIMIT);
      ensure(content.length === member.uncompressedSize && content.length <= LIMIT, `${content.length} bytes`);
      decoded++;
    }
    return `${Object.keys(found).join()}, ${decoded} decoded`;
  },
};
