import { NymphError } from '../errors.ts';
import { connectContainerd, type Service } from './connection.ts';

/** What a containerd says of itself. */
export interface RunningContainerd {
  version: string;
  plugins: RunningPlugin[];
}

export interface RunningPlugin {
  type: string;
  id: string;
  exports: Record<string, string>;
  /** Why it did not start; `null` if it did. */
  initErr: { message: string } | null;
}

export const SNAPSHOTTER_PLUGIN = 'io.containerd.snapshotter.v1';
export const TRANSFER_PLUGIN = 'io.containerd.transfer.v1';

const ANSWER_MS = 10_000;

/** @param address unix socket. @throws NymphError if nobody answers as containerd does */
export async function askContainerd(address: string): Promise<RunningContainerd> {
  const connection = connectContainerd(address);
  const ask = <T>(service: Service, method: string) =>
    connection.call<T>(service, method, {}, { namespace: 'default', timeout: ANSWER_MS });
  try {
    const { version } = await ask<{ version: string }>('version', 'Version');
    const { plugins } = await ask<{ plugins: RunningPlugin[] }>('introspection', 'Plugins');
    return { version, plugins };
  } catch (error) {
    // gRPC adds an essay to a refused connection.
    const { message } = error as Error;
    const why = /connect [A-Z]+/.exec(message)?.[0] ?? message;
    throw new NymphError('daemon', `containerd does not answer on ${address}: ${why}`, { cause: error });
  } finally {
    connection.close();
  }
}
