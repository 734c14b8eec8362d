import { resolve } from 'node:path';
import { type Config, loadConfig } from '../daemon/config.ts';
import type { ControlClient } from '../daemon/control-client.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  config?: string;
  root?: string;
  address?: string;
  driver?: string;
  json?: boolean;
  verbose?: boolean;
}

/** What a command is given. */
export interface Context {
  readonly config: Config;
  /** Global options as they were given, paths made absolute: what a daemon that we start is given too. */
  readonly globals: GlobalOptions;
  /** Prints the result on standard output: the document with `--json`, else the text; `''` prints nothing. */
  print(document: unknown, text: () => string): void;
  /** From now on Ctrl-C aborts this signal; a second one ends the process at once. */
  interruption(): AbortSignal;
  /** A client for the daemon, cancelled by Ctrl-C. */
  daemon(): Promise<ControlClient>;
}

/** Reads the configuration. @throws NymphError `config` */
export async function createContext(options: GlobalOptions): Promise<Context> {
  const globals = { ...options };
  for (const name of ['config', 'root', 'address'] as const)
    if (globals[name] !== undefined) globals[name] = resolve(globals[name]);
  const config = await loadConfig(globals.config, globals);
  let controller: AbortController | undefined;
  const interruption = () => {
    controller ??= abortOnSignals();
    return controller.signal;
  };
  return {
    config,
    globals,
    print: (document, text) => {
      const output = globals.json ? JSON.stringify(document) : text();
      if (output !== '') process.stdout.write(`${output}\n`);
    },
    interruption,
    daemon: async () => {
      const { controlClient } = await import('../daemon/control-client.ts');
      return controlClient(config.address, interruption());
    },
  };
}

function abortOnSignals(): AbortController {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return controller;
}
