/**
 * `make demo`: mounts the image in fixtures/ from a registry that is 10 ms and 1 Gbit/s away, runs its program, and does
 * the same again after a full download. Root only. Leaves nothing behind.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { styleText } from 'node:util';
import { inLab, type Lab } from './lab.ts';
import { type Nymph, startNymph } from './nymph.ts';
import { run } from './processes.ts';
import { type Remote, startRemote } from './remote.ts';
import { fitDirectory, missingRequirements } from './requirements.ts';

const LAYOUT = fileURLToPath(new URL('../fixtures/oci/app', import.meta.url));
/** What `/bin/app` in the image says. */
const SAYS = 'hello from a lazily loaded image\n';
/** Largest part of the image that may be fetched before the program speaks. */
const MOST_FETCHED = 0.1;

const style = (format: 'bold' | 'green' | 'red', text: string): string =>
  styleText(format, text, { stream: process.stdout });

interface Start {
  /** ms from the first command to the program's first byte. */
  time: number;
  /** Bytes received by then. */
  bytes: number;
}

async function demo(lab: Lab): Promise<void> {
  const remote = await startRemote(lab, { app: LAYOUT });
  const image = `${remote.host}/app:nydus`;
  console.log(`${style('bold', 'nymph demo')}: ${image}, a registry 10 ms away with 1 Gbit/s`);
  console.log('starting a daemon with an empty cache for each of the two ways\n');
  const lazy = await startNymph(lab, join(lab.directory, 'lazy'));
  const whole = await startNymph(lab, join(lab.directory, 'whole'));

  const lazily = await measure(lab, remote, lazy, image, 'a', false);
  const wholly = await measure(lab, remote, whole, image, 'b', true);
  const part = lazily.bytes / wholly.bytes;
  print([
    ['', 'first output', 'received by then', ''],
    ['nymph mount, run', ms(lazily.time), megabytes(lazily.bytes), percent(part)],
    ['nymph pull, mount, run', ms(wholly.time), megabytes(wholly.bytes), percent(1)],
  ]);
  if (part >= MOST_FETCHED)
    throw new Error(`${percent(part)} of the image was fetched before the first output; less than 10 % was promised`);
  console.log(
    `\n${style('green', 'ok')}: the program spoke ${(wholly.time / lazily.time).toFixed(1)} times as soon, ` +
      `with ${percent(part)} of the bytes`,
  );
  console.log(`    "${SAYS.trimEnd()}"`);
  const verified = await lazy.command('verify', join(lab.directory, 'a'));
  console.log(`${style('green', 'ok')}: nymph verify, the rest fetched: ${verified}`);
}

/** Mounts the image, after a full download if `pull`, and runs its program. */
async function measure(
  lab: Lab,
  remote: Remote,
  nymph: Nymph,
  image: string,
  name: string,
  pull: boolean,
): Promise<Start> {
  const directory = join(lab.directory, name);
  const before = await remote.received();
  const begun = performance.now();
  if (pull) await nymph.command('pull', image);
  await nymph.command('mount', image, directory);
  let end = Number.NaN;
  let received: Promise<number> | undefined;
  const { out } = await run('chroot', [directory, '/bin/app'], {
    onFirstByte: () => {
      end = performance.now();
      received = remote.received();
    },
  });
  if (out !== SAYS || received === undefined)
    throw new Error(`/bin/app said ${JSON.stringify(out)}, not ${JSON.stringify(SAYS)}`);
  return { time: end - begun, bytes: (await received) - before };
}

function print(rows: string[][]): void {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows)
    console.log(
      `  ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join('   ')}`,
    );
}

const ms = (value: number): string => `${value.toFixed(0)} ms`;
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
const percent = (part: number): string => `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`;

const missing = missingRequirements();
if (missing.length > 0) {
  console.error(`The demo cannot run here.\n${missing.map((line) => `  ${line}`).join('\n')}`);
  process.exit(1);
}
try {
  await inLab(fitDirectory([process.env.TMPDIR, '/var/tmp', '/tmp', '/var/lib', '/root']), 'nymph-demo', demo);
} catch (error) {
  console.error(`${style('red', 'failed')}: ${(error as Error).message}`);
  process.exitCode = 1;
}
