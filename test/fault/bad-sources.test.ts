/** Registries that fail, lie, stall and vanish, seen by readers of a mounted image: right bytes, or EIO and a reason in the log. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { cannotMount, isAlive, mountsBelow, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startReaders } from '../readers.ts';
import type { Faults } from '../registry/faults.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { makeBigFile, makeManyFiles } from '../tree.ts';

type Ending = { after(clean: () => Promise<void>): void };

describe('bad sources', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  before(async () => {
    image = await makeImage(directory, 'made', (tree) => {
      mkdirSync(join(tree, 'many'));
      makeManyFiles(join(tree, 'many'), { count: 300 });
      makeBigFile(join(tree, 'big'), 32 << 20);
    });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  const registryOn = async (t: Ending, faults: Faults = {}, port = 0): Promise<TestRegistry> => {
    const registry = await startRegistry({ layouts: { made: image.layout }, faults, port });
    t.after(() => registry.close());
    return registry;
  };
  const daemonOn = (t: Ending, host: string, fetch = '', registry = '') =>
    testDaemon(t, { toml: `[registry]\nplain_http = ["${host}"]\n${registry}\n[fetch]\n${fetch}\n` });
  const mount = async (daemon: TestDaemon, host: string): Promise<string> => {
    const place = daemon.place('m');
    await daemon.client.mount({ reference: `${host}/made:made`, directory: place, options: { prefetch: 'none' } });
    return place;
  };
  const same = async (place: string): Promise<void> => {
    const { status, out, err } = await run('diff', ['-r', image.truth, place]);
    assert.equal(status, 0, `${out.toString().slice(0, 500)}${err.slice(0, 500)}`);
  };

  for (const [name, fault] of Object.entries({
    'bursts of 503': { status: { code: 503, times: 12, on: 'blob' } },
    'bursts of 429 with Retry-After': { status: { code: 429, retryAfter: '1', times: 6, on: 'blob' } },
    'bodies that are cut': { blob: { kind: 'cut', after: 100_000, times: 12 } },
    'other ranges than asked for': { blob: { kind: 'other-range', times: 4 } },
    'bodies that are short': { blob: { kind: 'short', by: 1, times: 6 } },
    'connections that are closed': { blob: { kind: 'hang-up', times: 12 } },
    'bits that flip': { blob: { kind: 'bit-flip', times: 4 } },
  } satisfies Record<string, Faults>)) {
    test(`${name}: readers see nothing of it`, async (t) => {
      const registry = await registryOn(t);
      const daemon = await daemonOn(t, registry.host);
      const place = await mount(daemon, registry.host);
      Object.assign(registry.faults, structuredClone(fault));
      const readers = startReaders(t, image.truth, place, { readers: 4 });
      await sleep(900);
      const seen = await readers.stop();
      assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
      await same(place);
      const { fetch } = await daemon.client.status();
      assert.ok(fetch.retries > 0, 'the fault was met');
      assert.ok((await daemon.told('trying again')).length > 0, 'and logged');
    });
  }

  test('bits that always flip: no read is wrong, the log says why', async (t) => {
    const registry = await registryOn(t);
    const daemon = await daemonOn(t, registry.host, 'deadline = "5s"\nattempts = 3\namplify = "0"');
    const place = await mount(daemon, registry.host);
    registry.faults.blob = { kind: 'bit-flip' };
    const readers = startReaders(t, image.truth, place, { readers: 8 });
    await sleep(4000);
    const seen = await readers.stop();
    assert.deepEqual(seen.wrong, []);
    assert.deepEqual(Object.keys(seen.errors), ['EIO']);
    assert.match((await daemon.told('a read failed'))[0], /digest|decod|frame|zstd/i);
    const { fetch } = await daemon.client.status();
    assert.ok(fetch.badChunks > 0 && fetch.failed > 0);
    registry.faults.blob = undefined;
    await sleep(300);
    await same(place);
  });

  test('a mirror that lies: its bytes are dropped, the next source is asked', async (t) => {
    const registry = await registryOn(t);
    const liar = await registryOn(t, { blob: { kind: 'bit-flip' } });
    const hosts = join(mkdtempSync(join(directory, 'hosts-')), 'registry.test');
    mkdirSync(hosts);
    writeFileSync(
      join(hosts, 'hosts.toml'),
      `server = "http://${registry.host}"\n[host."http://${liar.host}"]\ncapabilities = ["pull"]\n`,
    );
    const daemon = await daemonOn(t, registry.host, '', `config_dirs = [${JSON.stringify(join(hosts, '..'))}]`);
    const place = await mount(daemon, 'registry.test');
    const readers = startReaders(t, image.truth, place, { readers: 8 });
    await sleep(2000);
    const seen = await readers.stop();
    assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    await same(place);
    assert.ok(liar.stats.blobs > 0, 'the mirror was asked');
    assert.ok((await daemon.client.status()).fetch.badChunks > 0);
  });

  test('a stall: EIO within the deadline, and the log says why', async (t) => {
    const registry = await registryOn(t);
    const daemon = await daemonOn(t, registry.host, 'deadline = "2s"');
    const place = await mount(daemon, registry.host);
    registry.faults.blob = { kind: 'stall', after: 10 };
    const read = await run('dd', [`if=${place}/big`, 'of=/dev/null', 'bs=4k', 'count=1']);
    assert.match(read.err, /Input\/output error/);
    assert.ok(read.milliseconds > 1900 && read.milliseconds < 15_000, `${read.milliseconds} ms`);
    assert.match((await daemon.told('a read failed'))[0], /2000 ms/);
    const listed = await daemon.nymph('ls');
    assert.ok(listed.status === 0 && listed.milliseconds < 10_000, 'the daemon answers meanwhile');
    registry.faults.blob = undefined;
    await sleep(300);
    await same(place);
  });

  test('a reader that is killed while it waits dies at once', async (t) => {
    const registry = await registryOn(t);
    const daemon = await daemonOn(t, registry.host);
    const place = await mount(daemon, registry.host);
    registry.faults.blob = { kind: 'stall', after: 10 };
    for (const [i, signal] of (['SIGKILL', 'SIGINT'] as const).entries()) {
      const reader = spawn('tail', ['-c', String(4096 + (i << 24)), `${place}/big`], { stdio: 'ignore' });
      await until(
        15_000,
        'the reader does not wait',
        async () => (await daemon.client.status()).fuse.waiting > 0 || undefined,
      );
      await sleep(200);
      reader.kill(signal);
      // Far below the time after which the read itself would end.
      await until(10_000, `${signal} does not end the reader`, async () => !isAlive(reader.pid!) || undefined);
    }
  });

  test('a blob that is gone: EIO soon', async (t) => {
    const registry = await registryOn(t);
    const daemon = await daemonOn(t, registry.host);
    const place = await mount(daemon, registry.host);
    registry.faults.status = { code: 404, on: 'blob' };
    const read = await run('cat', [`${place}/big`]);
    assert.match(read.err, /Input\/output error/);
    assert.ok(read.milliseconds < 15_000, `${read.milliseconds} ms: as long as a deadline`);
    assert.match((await daemon.told('a read failed'))[0], /404/);
    registry.faults.status = undefined;
    await sleep(300);
    await same(place);
  });

  test('a registry that ends in the midst of a read and comes back is waited for', async (t) => {
    const registry = await startRegistry({ layouts: { made: image.layout }, faults: { bandwidth: 4 << 20 } });
    const daemon = await daemonOn(t, registry.host);
    const place = await mount(daemon, registry.host);
    const reading = run('cmp', [join(image.truth, 'big'), join(place, 'big')]);
    await sleep(800);
    await registry.close();
    await sleep(3000);
    await registryOn(t, {}, Number(new URL(registry.url).port));
    const back = performance.now();
    const { status, err } = await reading;
    assert.equal(status, 0, err);
    t.diagnostic(`the read ended ${Math.round(performance.now() - back)} ms after the registry was back`);
  });

  test('a registry that is down when a mount is asked for and comes up soon', async (t) => {
    const first = await startRegistry({ layouts: { made: image.layout } });
    await first.close();
    const daemon = await daemonOn(t, first.host);
    const mounting = mount(daemon, first.host);
    await sleep(600);
    await registryOn(t, {}, Number(new URL(first.url).port));
    await same(await mounting);
  });

  test('a registry that is down: the mount fails, says so, and nothing is left', async (t) => {
    const first = await startRegistry({ layouts: { made: image.layout } });
    await first.close();
    const daemon = await daemonOn(t, first.host);
    const place = join(daemon.directory, 'new', 'place');
    const { status, json, milliseconds } = await daemon.nymph('mount', `${first.host}/made:made`, place);
    const { error } = json as { error: { code: string; message: string } };
    assert.deepEqual([status, error.code], [1, 'source']);
    assert.match(error.message, /ECONNREFUSED/);
    assert.ok(milliseconds < 10_000, `${milliseconds} ms`);
    assert.ok(!readdirSync(daemon.directory).includes('new'), 'the directory that was made is gone again');
    assert.deepEqual((await daemon.client.status()).mounts, []);
  });

  test('a damaged bootstrap is refused by the name of the field, and nothing is left', async (t) => {
    const daemon = await testDaemon(t);
    const refused = new Set<string>();
    for (let round = 0; round < 8; round++) {
      const layout = join(directory, `damaged-${round}`);
      damageBootstrap(image.layout, layout, round);
      const place = daemon.place(`d${round}`);
      const { status, json, err } = await daemon.nymph('mount', `oci:${layout}:made`, place);
      const { error } = json as { error: { code: string; message: string } };
      assert.ok(['corrupt', 'unsupported'].includes(error.code), `${error.code}: ${err}`);
      assert.ok(status === 5 || status === 6);
      assert.match(error.message, /^(bootstrap|RAFS super-block|EROFS super-block|[\w .-]+): \w/);
      refused.add(error.message);
      assert.deepEqual(mountsBelow(place), []);
      const { cache, mounts } = await daemon.client.status();
      assert.deepEqual([cache.images, cache.blobs, mounts.length], [0, 0, 0], error.message);
    }
    for (const message of refused) t.diagnostic(message);
  });
});

const SUPER_BLOCK = 1024;

/** Copies a layout and changes its bootstrap, with all digests made to agree again. */
function damageBootstrap(from: string, to: string, round: number): void {
  cpSync(from, to, { recursive: true });
  const objects = join(to, 'blobs', 'sha256');
  const read = (digest: string) => readFileSync(join(objects, digest.slice('sha256:'.length)));
  const put = (bytes: Buffer) => {
    const id = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(objects, id), bytes);
    return { digest: `sha256:${id}`, size: bytes.length };
  };
  const index = JSON.parse(readFileSync(join(to, 'index.json'), 'utf8'));
  const manifest = JSON.parse(read(index.manifests[0].digest).toString());
  const layer = manifest.layers.at(-1);
  const tar = gunzipSync(read(layer.digest));
  const start = tar.indexOf('image/image.boot') + 512 + SUPER_BLOCK;
  // Magic, block size, root inode, number and place of devices, and the RAFS super block behind the EROFS one.
  const places = [0, 12, 14, 86, 88, 128 + 4, 128 + 16, 128 + 24];
  tar.writeUInt8(tar[start + places[round]] ^ 0xff, start + places[round]);
  Object.assign(layer, put(gzipSync(tar)));
  Object.assign(index.manifests[0], put(Buffer.from(JSON.stringify(manifest))));
  writeFileSync(join(to, 'index.json'), JSON.stringify(index));
}
