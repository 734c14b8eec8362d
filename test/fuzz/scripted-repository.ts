/** A repository whose documents are written down, in the order in which they are asked for, with lines `--` between. */
import { OCI_MANIFEST, parseIndex, parseJsonObject } from '../../src/sources/descriptor.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import type { Manifest, Repository } from '../../src/sources/source.ts';
import { answersIn } from './scripted-network.ts';

export function scriptedRepository(input: Uint8Array): Repository {
  const documents = answersIn(input).map((text) => Buffer.from(text, 'latin1'));
  let next = 0;
  const take = () => documents[next++] ?? Buffer.from('{}');
  const manifest = (): Manifest => {
    const bytes = take();
    const { mediaType } = parseJsonObject(bytes, 'manifest');
    const named = typeof mediaType === 'string' ? mediaType : OCI_MANIFEST;
    return { bytes, descriptor: { mediaType: named, digest: sha256Digest(bytes), size: bytes.length } };
  };
  return {
    reference: 'registry.example/app:t',
    kind: 'registry',
    resolve: async () => manifest(),
    manifest: async () => manifest(),
    referrers: async () => parseIndex(take(), 'referrers'),
    get: async () => take(),
    open: () => {
      throw new Error('no blob is asked for');
    },
    close: async () => {},
  };
}
