import type { Config } from '../daemon/config.ts';
import { capturedCredentials, registryOptions } from '../daemon/registry-options.ts';
import { NymphError } from '../errors.ts';
import { parseReference } from '../sources/reference.ts';
import { credentialPlaces, findCredentials } from '../sources/registry/credentials.ts';
import { type Finding, findings } from './finding.ts';

const { ok, warning, problem } = findings('registry');

/**
 * Whether the image can be read, and lazily.
 * @param open reads manifest and bootstrap; resolves with what it is
 */
export async function checkRegistry(config: Config, name: string, open: () => Promise<string>): Promise<Finding[]> {
  const found = await checkLogins(config, name);
  try {
    return [...found, ok(`${name}: ${await open()}`)];
  } catch (error) {
    if (!(error instanceof NymphError) || error.code === 'cancelled') throw error;
    if (error.code === 'unsupported') return [...found, warning(`${name} is not lazy: ${error.message}`, error.hint)];
    return [...found, problem(error.message, error.hint)];
  }
}

/** Where logins for it are, without trying them: the registry is asked afterwards, as a mount would. */
async function checkLogins(config: Config, name: string): Promise<Finding[]> {
  const reference = parseReference(name);
  if (reference.kind !== 'registry') return [];
  const captured = capturedCredentials(config, () => undefined);
  const places = credentialPlaces({ ...registryOptions(config), ...(captured ? { captured } : {}) });
  const problems: string[] = [];
  const from: string[] = [];
  for await (const candidate of findCredentials(places, reference.host, reference.repository, problems))
    from.push(candidate.from);
  const logins = from.length === 0 ? 'no logins' : `logins, in this order: ${from.join(', ')}`;
  return [
    ok(`for ${reference.host}/${reference.repository} there are ${logins}`),
    ...problems.map((text) => warning(text, 'Repair or remove it.')),
  ];
}
