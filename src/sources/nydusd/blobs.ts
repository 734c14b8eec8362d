import type { OciDigest } from '../../image/image.ts';
import { digestHex } from '../digest.ts';
import { openBucket } from '../object-storage/object.ts';
import type { RegistryNetwork } from '../registry/network.ts';
import type { Source } from '../source.ts';
import type { Backend, ObjectBackend } from './backend.ts';
import { createConnector } from './connect.ts';
import { openHttpBlobs } from './http-blobs.ts';
import { openLocalBlobs } from './local-blobs.ts';
import { openRegistryBlobs } from './registry-blobs.ts';

/** The blobs of a backend, by digest. No request is made before the first read. */
export type OpenBlob = (digest: OciDigest, size: number | undefined) => Source;

/** @param file the configuration's, for hints */
export function openBackend(backend: Backend, network: RegistryNetwork, file: string): OpenBlob {
  switch (backend.kind) {
    case 'registry':
      return openRegistryBlobs(backend, network, file);
    case 'bucket':
      return openBucketBlobs(backend, network, file);
    case 'localfs':
      return openLocalBlobs(backend);
    case 'http-proxy':
      return openHttpBlobs(backend, network);
  }
}

function openBucketBlobs({ bucket, connection }: ObjectBackend, network: RegistryNetwork, file: string): OpenBlob {
  const connector = createConnector(connection);
  const url = new URL(`${bucket.scheme}://${bucket.endpoint}`);
  const endpoints = async () => connector.ways({ url, upstream: true, tls: await connector.tls() });
  const storage = openBucket(network, bucket, endpoints, file);
  return (digest, size) => storage.open(digestHex(digest), `blob ${digest}`, size);
}
