/** Start-up readahead through the whole program: what a module imports is here before it is read. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { cannotMount, run, testDaemon, until } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { compiledModule } from '../python.ts';
import { startRegistry } from '../registry/registry.ts';

const LIBRARY = 'usr/lib/python3.11';
/** Of each file: more than what a fault brings with it. */
const MODULE_BYTES = 20_000;

/** Mounts an image and fetches nothing ahead. `ready`: bytes of it that are here. */
async function shown(t: TestContext, image: MadeImage) {
  const daemon = await testDaemon(t);
  const mounted = daemon.place('image');
  const reference = `oci:${image.layout}:${image.tag}`;
  await daemon.client.mount({ reference, directory: mounted, options: { prefetch: 'none' } });
  return { daemon, mounted, ready: async () => (await daemon.client.image(image.digest)).ready };
}

test('connections to where the data is are there before the first fault', { skip: cannotMount() }, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const image = await makeImage(directory, 'app', (tree) => writeFileSync(join(tree, 'file'), randomBytes(100_000)));
  const registry = await startRegistry({ layouts: { app: image.layout }, faults: { redirect: {} } });
  t.after(() => registry.close());
  const daemon = await testDaemon(t);
  const mounted = daemon.place('image');
  await daemon.client.mount({
    reference: `${registry.host}/app:app`,
    directory: mounted,
    options: { prefetch: 'none' },
  });
  await until(5_000, 'no connection was made', async () => (registry.stats.storage > 0 ? true : undefined));
  const { connections } = registry.stats;
  assert.ok(registry.stats.blobBytes < image.stored / 2, 'no data came');
  assert.equal((await run('cat', [join(mounted, 'file')])).status, 0);
  assert.equal(registry.stats.connections, connections, 'and the fault needs no other');
});

test('an executable is sent for whole as soon as its first bytes are waited for', {
  skip: cannotMount(),
}, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const size = 5 << 20;
  const image = await makeImage(directory, 'app', (tree) => {
    for (const [name, mode] of [
      ['data', 0o644],
      ['program', 0o755],
      ['library.so', 0o755],
    ] as const)
      writeFileSync(join(tree, name), randomBytes(size), { mode });
  });
  const { mounted, ready } = await shown(t, image);
  const begin = (name: string) => run('dd', [`if=${join(mounted, name)}`, 'of=/dev/null', 'bs=512', 'count=1']);
  await begin('data');
  await begin('library.so');
  const before = await ready();
  assert.ok(before < 2 * size, `the beginnings alone: ${before}`);
  await begin('program');
  await until(60_000, 'its rest did not come', async () => ((await ready()) >= before + size ? true : undefined));
});

test('what a module of the standard library imports comes with it', { skip: cannotMount() }, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const image = await makeImage(directory, 'python', (tree) => {
    for (const module of [
      ...['encodings/__init__', 'json/__init__', 'json/decoder', 'json/encoder', 'json/scanner', 're/__init__'],
      ...['re/_compiler', 're/_casefix', 're/_parser', 're/_constants', 'enum', 'functools', 'types', 'operator'],
      ...['collections/__init__', 'keyword', 'reprlib', 'copyreg', 'logging/__init__', 'socket'],
    ]) {
      const path = join(tree, LIBRARY, module.replace(/([^/]+)$/, '__pycache__/$1.cpython-311.pyc'));
      mkdirSync(dirname(path), { recursive: true });
      // Content that tells nobody what it imports.
      writeFileSync(path, randomBytes(MODULE_BYTES));
    }
  });
  const { mounted, ready } = await shown(t, image);
  await run('cat', [join(mounted, LIBRARY, 'json/__pycache__/__init__.cpython-311.pyc')]);
  // All but `encodings`, `logging` and `socket`.
  await until(60_000, 'the modules did not come', async () =>
    (await ready()) >= 17 * MODULE_BYTES ? true : undefined,
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.ok((await ready()) < 18 * MODULE_BYTES, `what is not imported stays away: ${await ready()}`);
});

describe('the modules of a Python program', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  before(async () => {
    image = await makeImage(directory, 'python', (tree) => {
      const write = (path: string, content: Buffer) => {
        mkdirSync(dirname(join(tree, path)), { recursive: true });
        writeFileSync(join(tree, path), Buffer.concat([content, randomBytes(MODULE_BYTES)]));
      };
      const source = (text: string) => Buffer.from(`${text}\n#`);
      const cached = (module: string) => `${LIBRARY}/${module.replace(/([^/]+)$/, '__pycache__/$1')}.cpython-311.pyc`;
      // `first` imports a package with a module in it, which imports one that is there as source alone.
      write(
        cached('first'),
        compiledModule(11, [{ module: 'package', names: ['inner', 'attribute'] }], [{ module: 'later' }]),
      );
      write(cached('package/__init__'), compiledModule(11, [{ module: 'abc' }]));
      write(cached('package/inner'), compiledModule(11, [{ module: '', names: ['beside'] }, { module: 'plain' }]));
      write(cached('package/beside'), compiledModule(11, []));
      write(`${LIBRARY}/plain.py`, source('import last'));
      write(`${LIBRARY}/last.py`, source('import absent'));
      for (const name of ['later', 'unused', 'abc']) write(cached(name), compiledModule(11, []));
    });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test('come one step after another without a reader, and nothing else does', async (t) => {
    const { daemon, mounted, ready } = await shown(t, image);
    const read = await run('cat', [join(mounted, LIBRARY, '__pycache__', 'first.cpython-311.pyc')]);
    assert.equal(read.status, 0, read.err);
    // first, package, inner, beside, plain, last: six files, each in a few blocks of its own.
    const six = 6 * MODULE_BYTES;
    await until(60_000, 'the modules did not come', async () => ((await ready()) >= six ? true : undefined));
    const { fuse } = await daemon.client.status();
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.ok((await ready()) < 7 * MODULE_BYTES, `what is not imported at once stays away: ${await ready()}`);
    const all = await run('sh', ['-c', `cd ${join(mounted, LIBRARY)} && cat plain.py last.py package/__pycache__/*`]);
    assert.equal(all.status, 0, all.err);
    assert.equal((await daemon.client.status()).fuse.faults, fuse.faults, 'no reader waited for them');
  });
});
