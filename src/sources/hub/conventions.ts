import { homedir } from 'node:os';
import { join } from 'node:path';

/** How the programs of a public hub are told of its token and its mirrors. For built-in drivers alone: others could ask for any secret. */
export interface Conventions {
  readonly endpoint?: string;
  readonly token?: string;
  /** Files with the token, the first that is there counts. */
  readonly tokenFiles: readonly string[];
  /** The variable that forbids requests, if it is set. */
  readonly offline?: string;
  /** For errors: how people log in. */
  readonly login: string;
}

/**
 * Sources: huggingface_hub 1.x, `constants.py` and `utils/_auth.py`; modelscope_hub 0.0.7, `config.py`, and modctl, which
 * reads `~/.modelscope/token`.
 */
export function conventionsOf(scheme: string, env: NodeJS.ProcessEnv): Conventions | undefined {
  const home = env.HOME || homedir();
  if (scheme === 'hf') {
    const hfHome = env.HF_HOME || join(env.XDG_CACHE_HOME || join(home, '.cache'), 'huggingface');
    return {
      endpoint: env.HF_ENDPOINT || undefined,
      token: env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || undefined,
      tokenFiles: [env.HF_TOKEN_PATH || join(hfHome, 'token'), join(home, '.huggingface', 'token')],
      offline: ['HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'].find((name) => isTrue(env[name])),
      login: 'set HF_TOKEN for the daemon, or run `hf auth login` as its user',
    };
  }
  if (scheme === 'modelscope')
    return {
      endpoint: env.MODELSCOPE_ENDPOINT || undefined,
      token: env.MODELSCOPE_API_TOKEN || env.MODELSCOPE_SDK_TOKEN || undefined,
      tokenFiles: [join(home, '.modelscope', 'token')],
      login: 'set MODELSCOPE_API_TOKEN for the daemon',
    };
  return undefined;
}

function isTrue(value: string | undefined): boolean {
  return /^(?:1|on|yes|true)$/i.test(value ?? '');
}
