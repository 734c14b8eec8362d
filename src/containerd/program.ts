import { setTimeout as sleep } from 'node:timers/promises';
import { NymphError } from '../errors.ts';
import type { Program } from '../mount/program.ts';
import type { Connection } from './connection.ts';
import { isStatus } from './status.ts';

/** Pauses between two questions, ms: a container is recorded some milliseconds after its snapshot was made. */
const FIRST_PAUSE = 5;
const LAST_PAUSE = 1_000;
const ANSWER_MS = 1_000;

interface Answer {
  container: { spec: { value: Buffer } | null; snapshotKey: string };
}

/**
 * What the container runs that was made on a snapshot. Clients (nerdctl, ctr, the CRI plugin) name both alike; of others
 * nothing is known.
 * @param key of the snapshot, as clients know it
 * @returns undefined if no such container comes within two seconds
 * @throws NymphError if containerd does not answer, `corrupt` for a specification that is none
 */
export async function programOn(
  containerd: Connection,
  namespace: string,
  key: string,
  signal: AbortSignal,
): Promise<Program | undefined> {
  for (let pause = FIRST_PAUSE; pause <= LAST_PAUSE; pause *= 2) {
    await sleep(pause, undefined, { signal, ref: false });
    try {
      const circumstances = { namespace, signal, timeout: ANSWER_MS };
      const { container } = await containerd.call<Answer>('containers', 'Get', { id: key }, circumstances);
      return container.snapshotKey === key && container.spec !== null ? programOf(container.spec.value) : undefined;
    } catch (error) {
      if (!isStatus(error, 'not found')) throw error;
    }
  }
  return undefined;
}

/** @param spec JSON of the OCI runtime specification (config.md, `process`) */
function programOf(spec: Buffer): Program | undefined {
  const { args, env, cwd } = readSpec(spec).process ?? {};
  if (!isTexts(args)) return undefined;
  const path = isTexts(env) ? env.findLast((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) : undefined;
  return {
    args,
    path: (path ?? '').split(':').filter((entry) => entry !== ''),
    cwd: typeof cwd === 'string' ? cwd : '/',
  };
}

function readSpec(spec: Buffer): { process?: Partial<Record<'args' | 'env' | 'cwd', unknown>> } {
  try {
    return JSON.parse(spec.toString('utf8')) ?? {};
  } catch {
    // What the parser says has parts of the text, and that has secrets in its environment.
    throw new NymphError('corrupt', 'the runtime specification of a container is no JSON');
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
