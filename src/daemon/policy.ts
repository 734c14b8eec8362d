import { execFile } from 'node:child_process';
import { NymphError } from '../errors.ts';
import { createGate } from '../fetch/gate.ts';
import type { OciDigest } from '../image/image.ts';
import { formatReference, parseReference } from '../sources/reference.ts';
import { orCancelled } from '../sources/retry.ts';

/** Says which images may be used, by asking a program of the operator's. */
export interface Policy {
  /**
   * Returns if the image may be mounted or fetched. What was allowed once stays allowed while the daemon runs.
   * @param reference in full form
   * @param digest of the image manifest
   * @throws NymphError `denied` if the program says no, cannot be run, or does not answer in time
   */
  permit(reference: string, digest: OciDigest, signal: AbortSignal): Promise<void>;
}

export interface PolicyOptions {
  /** Program and arguments; the image comes last. Empty: everything is allowed. */
  verify: readonly string[];
  /** ms */
  timeout: number;
}

/** Programs at the same time. */
const WIDTH = 4;
const MOST_OUTPUT = 1 << 20;
/** What of its last words an error has. */
const LAST_CHARACTERS = 300;
const MOST_REMEMBERED = 10_000;
/** What is ours alone: a program must not speak to the service manager in our name. */
const OURS = /^(NYMPH_|NODE_|NOTIFY_SOCKET$|WATCHDOG_|LISTEN_|FDSTORE$|UV_|MALLOC_)/;

export function createPolicy({ verify, timeout }: PolicyOptions): Policy {
  const [program, ...args] = verify;
  const gate = createGate(WIDTH);
  const answers = new Map<string, Promise<void>>();

  function ask(image: string): Promise<void> {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OURS.test(name)));
    const options = { timeout, killSignal: 'SIGKILL', maxBuffer: MOST_OUTPUT, env, cwd: '/' } as const;
    return new Promise((resolve, reject) => {
      const child = execFile(program, [...args, image], options, (error, _out, said) => {
        if (error === null) return resolve();
        const why = error.killed
          ? `did not answer within ${timeout / 1000} s`
          : typeof error.code === 'number'
            ? `ended with ${error.code}`
            : `cannot be run (${error.code ?? error.message})`;
        const last = said
          .trim()
          .slice(-LAST_CHARACTERS)
          .replace(/\p{Cc}+/gu, ' ');
        reject(
          new NymphError('denied', `the policy does not allow ${image}: ${program} ${why}`, {
            hint: last === '' ? 'See policy.verify of the configuration.' : `It said: ${last}`,
          }),
        );
      });
      child.stdin?.end();
    });
  }

  async function inTurn(image: string): Promise<void> {
    const leave = await gate.enter('', new AbortController().signal);
    try {
      await ask(image);
    } finally {
      leave();
    }
  }

  return {
    async permit(reference, digest, signal) {
      if (program === undefined) return;
      const image = imageOf(reference, digest);
      // Folders change, and have no digest in their name.
      const key = `${image} ${digest}`;
      let answer = answers.get(key);
      if (answer === undefined) {
        answer = inTurn(image);
        if (answers.size >= MOST_REMEMBERED) answers.delete(answers.keys().next().value!);
        answers.set(key, answer);
        // A refusal is asked about again: somebody may have signed meanwhile.
        answer.catch(() => answers.get(key) === answer && answers.delete(key));
      }
      // Others may wait for the same answer, so only this one stops waiting.
      await orCancelled(answer, signal, `asking the policy about ${image}`);
    },
  };
}

/** What the program is told: of a registry by digest and without a tag, of others as they are named. */
function imageOf(reference: string, digest: OciDigest): string {
  const parsed = parseReference(reference, '/');
  return parsed.kind === 'registry' ? formatReference({ ...parsed, tag: undefined, digest }) : formatReference(parsed);
}
