import { readFile } from 'node:fs/promises';
import { NymphError } from '../../errors.ts';

/** A file that was read is believed for so long, ms: tokens are changed while models are mounted. */
const LIFETIME = 5_000;

/** A token, as it is now; `undefined` where there is none. */
export type Token = () => Promise<string | undefined>;

/**
 * @param given stands in the environment
 * @param files with nothing but a token in them; the first that is there counts
 * @param required whether the first of them must be there: somebody has named it
 */
export function createToken(given: string | undefined, files: readonly string[], required: boolean): Token {
  let known: { token: string | undefined; readAt: number } | undefined;

  async function read(): Promise<string | undefined> {
    if (given !== undefined) return checked(given, 'the environment');
    for (const file of files) {
      try {
        return checked(await readFile(file, 'utf8'), file);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (error instanceof NymphError) throw error;
        if (code === 'ENOENT' && !required) continue;
        throw new NymphError('config', `the token file ${file} cannot be read: ${code}`, {
          hint: 'Check `token_files` in [hub], and that the daemon may read the file.',
        });
      }
    }
    return undefined;
  }

  return async () => {
    if (known === undefined || performance.now() - known.readAt > LIFETIME)
      known = { token: await read(), readAt: performance.now() };
    return known.token;
  };
}

/** @throws NymphError `config`, which does not quote it */
function checked(text: string, from: string): string | undefined {
  const token = text.trim();
  if (token === '') return undefined;
  if (!/^[\x21-\x7e]{1,4096}$/.test(token))
    throw new NymphError('config', `the token in ${from} is none: it has spaces, or other than printable characters`);
  return token;
}
