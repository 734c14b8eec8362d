import { fileURLToPath } from 'node:url';
import { loadSync, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import { parseReference } from '../sources/reference.ts';
import { type Credential, fromEntry } from '../sources/registry/credential.ts';

/** What a pull brings for nymph. */
export interface PullLogin {
  host: string;
  repository: string;
  credential: Credential;
}

interface PullImageRequest {
  image?: { image: string } | null;
  auth?: Partial<Record<string, string>> | null;
}

const PROTO = fileURLToPath(new URL('../../proto/', import.meta.url));

/** @returns how to read the message `runtime.v1.PullImageRequest` */
export function pullRequestReader(): (message: Buffer) => PullLogin | undefined {
  const proto = loadSync('runtime/v1/images.proto', { includeDirs: [PROTO], keepCase: true });
  const service = proto['runtime.v1.ImageService'] as ServiceDefinition;
  const method = service.PullImage as MethodDefinition<PullImageRequest, unknown>;
  return (message) => loginOf(method.requestDeserialize(message));
}

/**
 * The login of a pull, for the host that it is for: the one that the image's name begins with, unless the login names its
 * own (`server_address`).
 * @returns `undefined` for a pull without one
 * @throws NymphError `usage` if the image's name is none
 */
function loginOf({ image, auth }: PullImageRequest): PullLogin | undefined {
  if (!image || !auth) return undefined;
  const { username, password, identity_token: identitytoken, registry_token: registrytoken } = auth;
  const credential = fromEntry({ username, password, auth: auth.auth, identitytoken, registrytoken });
  if (!credential) return undefined;
  const reference = parseReference(image.image, '/');
  if (reference.kind !== 'registry') return undefined;
  const { host, repository } = reference;
  return { host: hostOf(auth.server_address) ?? host, repository, credential };
}

/** The host of `https://index.docker.io/v1/`, `registry.example:5000` or `registry.example/team`. */
function hostOf(address: string | undefined): string | undefined {
  const [host] = (address ?? '').replace(/^[a-z]+:\/\//i, '').split('/');
  return host === '' ? undefined : host;
}
