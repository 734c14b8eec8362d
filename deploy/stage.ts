/**
 * `node deploy/stage.ts DIRECTORY`: puts all that nymph needs at run time into a new directory, out of a built checkout:
 * Node, compiled sources, packages (without those for development), plugins, units, documentation, a list of components.
 * It is the content of the tarball, of the Debian package, and of what `make install` installs.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE = 'node_modules/node/bin/node';
const WHOLE = [
  'bin',
  'dist',
  'plugins/built',
  'proto',
  'web',
  'docs',
  'README.md',
  'LICENSE',
  'package.json',
  'deploy/systemd',
];
/** Of packages: what only compilers, people and other systems need. */
const NEEDLESS =
  /\.(map|md|d\.[cm]?ts|c|cc|cpp|h|gyp|gypi|ts)$|(^|\/)(darwin|win32|linuxmusl|android)[-_]|\/deps\/|\/example\//;

interface Lock {
  packages: Record<string, { dev?: boolean; version: string }>;
}

const [target] = process.argv.slice(2);
if (target === undefined || existsSync(target)) throw new Error('usage: stage.ts DIRECTORY, which must not exist yet');

const lock: Lock = JSON.parse(readFileSync(join(PROJECT, 'package-lock.json'), 'utf8'));
const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
mkdirSync(target, { recursive: true });
for (const path of WHOLE) copy(path, () => true);
copy('deploy/install.sh', () => true);
for (const [path, { dev }] of Object.entries(lock.packages))
  if (path !== '' && !dev && !path.startsWith('node_modules/@types/') && existsSync(join(PROJECT, path)))
    copy(path, (name) => !NEEDLESS.test(name) && !name.includes(`${sep}node_modules${sep}.`));
copy(NODE, () => true);
writeFileSync(join(target, 'sbom.cdx.json'), components());
// Installations stand beside each other under this name: other content, other name.
writeFileSync(join(target, 'build-id'), `${version}-${digestOf(target)}\n`);

function copy(path: string, wanted: (name: string) => boolean): void {
  mkdirSync(dirname(join(target, path)), { recursive: true });
  cpSync(join(PROJECT, path), join(target, path), {
    recursive: true,
    dereference: true,
    filter: (name) => wanted(relative(PROJECT, name)),
  });
}

/** CycloneDX, as npm makes it, and Node itself. What differs from one run to the next is left out. */
function components(): string {
  const args = ['sbom', '--sbom-format', 'cyclonedx', '--omit', 'dev', '--package-lock-only'];
  const document = JSON.parse(execFileSync('npm', args, { cwd: PROJECT, encoding: 'utf8', maxBuffer: 1 << 26 }));
  delete document.serialNumber;
  delete document.metadata.timestamp;
  const node = execFileSync(join(PROJECT, NODE), ['--version'], { encoding: 'utf8' }).trim().slice(1);
  document.components.push({
    type: 'application',
    'bom-ref': `node@${node}`,
    name: 'node',
    version: node,
    purl: `pkg:generic/node@${node}`,
    licenses: [{ license: { id: 'MIT' } }],
    hashes: [{ alg: 'SHA-256', content: sha256(readFileSync(join(PROJECT, NODE))) }],
  });
  return `${JSON.stringify(document, null, 2)}\n`;
}

function digestOf(directory: string): string {
  const files = (readdirSync(directory, { recursive: true }) as string[]).sort();
  const hash = createHash('sha256');
  for (const name of files) {
    const path = join(directory, name);
    if (statSync(path).isFile()) hash.update(`${name}\0${sha256(readFileSync(path))}\n`);
  }
  return hash.digest('hex').slice(0, 10);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
