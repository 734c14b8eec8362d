import { stat } from 'node:fs/promises';
import { NymphError } from '../../errors.ts';
import { readSmallFile } from '../file-source.ts';
import type { Log } from '../log.ts';
import { CONFIG_LIMIT, type NydusdConfig, parseNydusdConfig } from './config.ts';

/** A configuration that is followed: who changes the keys in it need not mount again. */
export interface ConfigFile {
  /** As it was read last, if it was. */
  readonly known: NydusdConfig | undefined;
  /** As it was read last; looked at again after a while. */
  current(): Promise<NydusdConfig>;
  /** Looks at once: something in it was refused. The same object if the file is as it was. */
  refreshed(): Promise<NydusdConfig>;
}

/** The file is looked at again after this many ms. */
const LIFETIME = 10_000;

/** @throws NymphError `config`, `not-found`, `denied`, `unsupported` */
export async function readNydusdConfig(path: string, signal = new AbortController().signal): Promise<NydusdConfig> {
  const bytes = await readSmallFile(path, `the nydusd configuration ${path}`, {}, CONFIG_LIMIT, signal);
  return parseNydusdConfig(Buffer.from(bytes).toString('utf8'), path);
}

/** Nothing is read yet. Once it was right, a file that is wrong or gone leaves the former configuration in force. */
export function followConfig(path: string, log: Log): ConfigFile {
  let known: { config: NydusdConfig; mark: string } | undefined;
  let lookedAt = 0;
  let looking: Promise<NydusdConfig> | undefined;

  async function look(): Promise<NydusdConfig> {
    try {
      const mark = await markOf(path);
      if (known === undefined || known.mark !== mark) known = { config: await readNydusdConfig(path), mark };
    } catch (error) {
      if (known === undefined || !(error instanceof NymphError)) throw error;
      log.warn({ file: path, error: error.message }, 'the nydusd configuration is wrong: going on with the former one');
    }
    lookedAt = performance.now();
    return known.config;
  }

  const refreshed = () => {
    looking ??= look().finally(() => {
      looking = undefined;
    });
    return looking;
  };

  return {
    get known() {
      return known?.config;
    },
    refreshed,
    async current() {
      if (known !== undefined && performance.now() - lookedAt < LIFETIME) return known.config;
      return refreshed();
    },
  };
}

/** Another one, another file; also for files that are replaced by renaming. Absent files are the reader's to report. */
async function markOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? '' : `${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}`;
}
