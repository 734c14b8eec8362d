import type { CapturedCredentials } from './captured.ts';
import type { Candidate } from './credential.ts';
import { credentialFiles, dockerCredentials } from './docker-config.ts';
import { secretCredentials } from './secrets.ts';

/** Where credentials are looked for. */
export interface CredentialPlaces {
  captured?: CapturedCredentials;
  /** Directories with Kubernetes pull secrets. */
  secretsDirs: readonly string[];
  /** Files in the format of Docker's `config.json`. */
  dockerFiles: readonly string[];
}

/** The places that a configuration names; the usual files of Docker and containers' tools, if it names none. */
export function credentialPlaces(options: {
  captured?: CapturedCredentials;
  secretsDirs?: readonly string[];
  credentials?: string;
}): CredentialPlaces {
  return {
    ...(options.captured ? { captured: options.captured } : {}),
    secretsDirs: options.secretsDirs ?? [],
    dockerFiles: credentialFiles(options.credentials),
  };
}

/**
 * What may be tried at a registry, best first: what came with the pull of this image, pull secrets, the files and helpers
 * of Docker and containers' tools. Each place is looked into only when what came before is not good enough, and anew
 * each time: this is how renewed credentials are found while an image is mounted.
 * @param problems takes files and helpers that could not be used, for the hint of a later refusal; without secrets
 */
export async function* findCredentials(
  places: CredentialPlaces,
  host: string,
  repository: string,
  problems: string[],
): AsyncGenerator<Candidate> {
  if (places.captured) yield* await places.captured.find(host, repository, problems);
  yield* secretCredentials(places.secretsDirs, host, repository, problems);
  yield* dockerCredentials(places.dockerFiles, host, repository, problems);
}
