/** Bootstrap layers: tars with what matters inside, plain or compressed. */
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { unpackBootstrapLayer } from '../../../src/formats/rafs/layer.ts';
import { tarOf } from '../../../src/formats/rafs/write/tar.ts';
import { sumTarHeaders } from '../tar-sums.ts';
import { ensure, type Target } from '../target.ts';

const LIMIT = 1 << 20;

const plain = tarOf([
  { name: 'image/', content: null },
  { name: 'image/image.boot', content: Buffer.alloc(700, 'b') },
  { name: `image/${'0a'.repeat(32)}.blob.meta`, content: Buffer.alloc(100, 'm') },
]);

export const target: Target = {
  name: 'layer',
  seeds: () => [
    plain,
    gzipSync(plain),
    zstdCompressSync(plain),
    gzipSync(Buffer.alloc(4 << 20)),
    zstdCompressSync(Buffer.alloc(4 << 20)),
  ],
  limit: 16 << 10,
  memory: 16 << 20,
  words: [
    'image.boot',
    'image/image.boot',
    './image/image.boot',
    '.blob.meta',
    'ustar\0',
    'ustar  ',
    '77777777777',
    '\n30 size=1',
    'x',
    'g',
    'L',
    'K',
  ],
  repair: sumTarHeaders,
  run(input) {
    const { bootstrap, blobMeta } = unpackBootstrapLayer(input, LIMIT);
    let size = bootstrap.length;
    for (const [id, meta] of blobMeta) {
      ensure(/^[0-9a-f]{64}$/.test(id), 'a name that is no id');
      size += meta.length;
    }
    ensure(size <= LIMIT, `${size} bytes`);
    return `${blobMeta.size} metas`;
  },
};
