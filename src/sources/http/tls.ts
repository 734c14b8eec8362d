import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { NymphError } from '../../errors.ts';
import type { TlsSettings } from './endpoint.ts';

/** Files with PEM texts, relative to some directory. */
export interface Certificates {
  ca: readonly string[];
  /** The key is in the certificate's file where it is not named. */
  client: readonly { cert: string; key?: string }[];
}

/**
 * Reads certificates.
 * @returns `undefined` if nothing differs from what the machine does by itself
 * @throws NymphError `config`
 */
export async function loadTls(
  from: Certificates,
  directory: string,
  skipVerify: boolean,
): Promise<TlsSettings | undefined> {
  if (from.ca.length === 0 && from.client.length === 0 && !skipVerify) return undefined;
  const load = async (path: string) => {
    const full = resolve(directory, path);
    const text = await readFile(full, 'utf8').catch((error: unknown) => {
      throw cannotRead(full, error);
    });
    if (!text.includes('-----BEGIN ')) throw new NymphError('config', `${full} is not a PEM file`);
    return text;
  };
  const ca = await Promise.all(from.ca.map(load));
  const client = await Promise.all(
    from.client.map(async ({ cert, key }) => ({ cert: await load(cert), key: await load(key ?? cert) })),
  );
  const id = createHash('sha256')
    .update(JSON.stringify([ca, client, skipVerify]))
    .digest('hex');
  return {
    id,
    ...(ca.length ? { ca } : {}),
    ...(client.length ? { client } : {}),
    ...(skipVerify ? { skipVerify } : {}),
  };
}

export function cannotRead(path: string, error: unknown): NymphError {
  return new NymphError('config', `cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? 'failed'}`, {
    cause: error,
  });
}
