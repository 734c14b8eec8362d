/** Tars whose files are served where they lie: what is found in a stream must be what headers alone say, and lie within. */
import { treeFiles } from '../../../src/cli/tree-files.ts';
import { imageOfFiles } from '../../../src/formats/files/image.ts';
import { listOfLayers } from '../../../src/formats/files/layers.ts';
import { seekableTar, streamedTar } from '../../../src/formats/tar/bytes.ts';
import { type TarMember, tarMembers } from '../../../src/formats/tar/members.ts';
import type { LayerPlan } from '../../../src/image/files.ts';
import { tarHeader, tarMember, tarPax } from '../../tar.ts';
import { sumTarHeaders } from '../tar-sums.ts';
import { ensure, type Target } from '../target.ts';

const PIECE = 700;
const END = Buffer.alloc(1024);
const header = (name: string, type: string, linkName = '') => tarHeader({ name, type, size: 0, linkName });

export const target: Target = {
  name: 'tar-members',
  seeds: () =>
    [
      [
        header('./d/', '5'),
        tarMember('./d/config.json', '{}'),
        tarMember('d/model.safetensors', Buffer.alloc(3000, 1)),
      ],
      [tarMember('a', 'b'), header('hard', '1', 'a'), header('d/soft', '2', '../a'), tarMember('a', 'later')],
      [
        tarPax([
          ['path', 'long/name'],
          ['size', '5'],
        ]),
        tarMember('x', 'yyyyy'),
      ],
      [
        tarPax([
          ['GNU.sparse.size', '100'],
          ['GNU.sparse.map', '5,3'],
        ]),
        tarMember('s0', 'abc'),
      ],
      [header('a', '3'), header('b', '2', '/etc/passwd'), header('c', '2', 'd/../../x')],
      [tarHeader({ name: 'L', type: 'L', size: 5 }), Buffer.alloc(512, 'n'), header('../short', '0')],
      [tarMember('a', ''), tarMember('a/b', 'c')],
    ].map((members) => Buffer.concat([...members, END])),
  errors: ['corrupt', 'unsupported'],
  // A link to what is not there is no wrong byte by itself.
  places: false,
  limit: 32 << 10,
  words: ['path', 'linkpath', 'size', 'GNU.sparse.', '../', './', '//', '/', '\x80\0\0\0', '30 size=99999999999\n'],
  repair: (input) => sumTarHeaders(input),
  async run(input) {
    const found = await tarMembers(streamedTar(pieces(input)), 'input');
    const again = await tarMembers(
      seekableTar(async (offset, length) => Buffer.from(input.subarray(offset, offset + length)), input.length),
      'input',
    );
    ensure(JSON.stringify(found) === JSON.stringify(again), 'headers alone say something else');
    for (const { content } of found) ensure(content.kind !== 'file' || isWithin(content, input.length), 'lies outside');
    const digest = `sha256:${'ab'.repeat(32)}` as const;
    const layer = { mediaType: '', digest, size: input.length };
    const plan: LayerPlan = { layer, holds: { kind: 'tar', codec: 'none' } };
    const list = listOfLayers('artifact', [plan], new Map([[plan, { members: found }]]), 'place');
    const { bootstrap, image } = imageOfFiles(list, 'input');
    for (const { path, type, size, blob } of treeFiles(bootstrap, true)) {
      ensure(!path.split('/').includes('..'), 'a path leads out');
      ensure(type !== 'file' || size === 0 || (blob === 0 && image.blobs[0].size === input.length), 'not in the tar');
    }
    return `${Math.ceil(Math.log2(found.length + 1))}`;
  },
};

function isWithin({ offset, size }: Extract<TarMember['content'], { kind: 'file' }>, length: number): boolean {
  return size === 0 || (offset % 512 === 0 && offset + size <= length);
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
}
