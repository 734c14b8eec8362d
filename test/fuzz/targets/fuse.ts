/** FUSE requests about a tree whose bootstrap the disk has damaged since it was checked. */
import { dispatch } from '../../../src/fuse/dispatch.ts';
import { InHeader, MAX_READ, Op } from '../../../src/fuse/wire.ts';
import { exampleBootstraps } from '../example-images.ts';
import { joinParts, splitParts } from '../parts.ts';
import { ensure, type Target } from '../target.ts';
import { FIRST, openTreeOf } from '../tree-view.ts';

const MOST_REQUESTS = 16;
const REQUEST = 80;

/** Requests of {@link REQUEST} bytes each. */
function request(op: number, nid: number, fields: (bytes: Buffer) => void = () => {}): Buffer {
  const bytes = Buffer.alloc(REQUEST);
  bytes.writeUInt32LE(REQUEST, InHeader.LEN);
  bytes.writeUInt32LE(op, InHeader.OPCODE);
  bytes.writeBigUInt64LE(BigInt(FIRST + nid), InHeader.NODEID);
  fields(bytes.subarray(InHeader.SIZE));
  return bytes;
}

export const target: Target = {
  name: 'fuse',
  share: 2,
  seeds() {
    const sized = (bytes: Buffer) => bytes.writeUInt32LE(4096, 16);
    const requests = [128, 130, 132, 134, 138, 142, 146].flatMap((nid) => [
      request(Op.GETATTR, nid),
      request(Op.LOOKUP, nid, (bytes) => bytes.write('small\0')),
      request(Op.READDIR, nid, sized),
      request(Op.READDIRPLUS, nid, sized),
      request(Op.READLINK, nid),
      request(Op.LISTXATTR, nid, (bytes) => bytes.writeUInt32LE(4096)),
      request(Op.GETXATTR, nid, (bytes) => bytes.write('user.a\0', 8 + bytes.writeUInt32LE(100))),
      request(Op.READ, nid, (bytes) => bytes.writeUInt32LE(MAX_READ, 16)),
    ]);
    const others = [Op.INIT, Op.STATFS, Op.OPEN, Op.RELEASE, Op.ACCESS, Op.FORGET].map((op) => request(op, 1));
    return exampleBootstraps().flatMap((bootstrap, i) =>
      [requests.slice(i * 9, i * 9 + 12), [...requests.slice(i, i + 4), ...others]].map((some) =>
        joinParts(bootstrap, Buffer.concat(some)),
      ),
    );
  },
  limit: 48 << 10,
  words: ['.', '..', 'small\0', 'sub\0', 'user.\0', 'trusted.overlay.opaque\0'],
  run(input) {
    const [bootstrap, requests] = splitParts(input, 2);
    const tree = openTreeOf(bootstrap, 2);
    const answers: string[] = [];
    for (let at = 0; at + REQUEST <= requests.length && answers.length < MOST_REQUESTS; at += REQUEST) {
      const bytes = requests.subarray(at, at + REQUEST);
      const ino = bytes.readUIntLE(InHeader.NODEID, 6);
      // Threads look for the tree by the number.
      if (ino < FIRST) continue;
      if (bytes.readUInt32LE(InHeader.OPCODE) === Op.READ) {
        const length = Math.min(bytes.readUInt32LE(InHeader.SIZE + 16), MAX_READ);
        const found = tree.locate(ino, bytes.readUIntLE(InHeader.SIZE + 8, 6), length);
        const size = Array.isArray(found) ? found.reduce((sum, extent) => sum + extent.length, 0) : found.length;
        ensure(size >= 0 && size <= length, `${size} bytes of ${length}`);
        if (Array.isArray(found))
          for (const { offset } of found) ensure(Number.isSafeInteger(offset) && offset >= 0, `byte ${offset}`);
        answers.push(`${Array.isArray(found)}`);
        continue;
      }
      const answer = dispatch(tree, bytes);
      ensure(
        typeof answer === 'number' ? answer > 0 && answer < 4096 : answer.length <= MAX_READ,
        'an answer that the kernel refuses',
      );
      answers.push(typeof answer);
    }
    return `${answers.length}`;
  },
};
