/** Images that a program of the operator's must allow. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { EXIT } from '../../src/exit-status.ts';
import { cannotMount, mountsBelow, run, type TestDaemon, testDaemon } from '../daemon.ts';
import { APP_LAYOUT, APP_MANIFEST } from '../fixtures.ts';
import { checkTree } from '../manifest.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { snapshotsClient } from '../snapshots.ts';

const skip = cannotMount();

interface World {
  registry: TestRegistry;
  daemon: TestDaemon;
  reference: string;
  digest: string;
  /** What the program was asked about, in order. */
  asked(): string[];
  allow(isAllowed: boolean): void;
}

async function world(t: TestContext, timeout = '1m', lines = ''): Promise<World> {
  const registry = await startRegistry({ layouts: { app: APP_LAYOUT } });
  t.after(() => registry.close());
  const daemon = await testDaemon(t, { start: false });
  const at = (name: string) => join(daemon.directory, name);
  writeFileSync(
    at('allowed.sh'),
    `#!/bin/sh\necho "$*" >>${at('asked')}\nenv >${at('env')}\n${lines}\n[ -e ${at('allowed')} ] && exit 0\necho "no signature of ours" >&2\nexit 1\n`,
  );
  chmodSync(at('allowed.sh'), 0o755);
  writeFileSync(
    at('config.toml'),
    `root = "${daemon.root}"\naddress = "${daemon.address}"\n[registry]\nplain_http = ["${registry.host}"]\n` +
      `[policy]\nverify = ["${at('allowed.sh')}", "verify", "--key", "k"]\ntimeout = "${timeout}"\n`,
  );
  await daemon.start();
  const { manifests } = JSON.parse(readFileSync(join(APP_LAYOUT, 'index.json'), 'utf8'));
  return {
    ...{ registry, daemon, reference: `${registry.host}/app:nydus`, digest: manifests[0].digest },
    asked: () => (existsSync(at('asked')) ? readFileSync(at('asked'), 'utf8').trim().split('\n') : []),
    allow: (isAllowed) => (isAllowed ? writeFileSync(at('allowed'), '') : rmSync(at('allowed'))),
  };
}

test('an image that is not allowed is not mounted, fetched, or given to containers; one that is is asked about once', {
  skip,
}, async (t) => {
  const { registry, daemon, reference, digest, asked, allow } = await world(t);
  const mounted = daemon.place('image');
  for (const args of [
    ['mount', reference, mounted],
    ['pull', reference],
    ['mount', `${registry.host}/app@${digest}`, mounted],
  ]) {
    const { status, err } = await daemon.nymph(...args);
    assert.equal(status, EXIT.denied, err);
    assert.match(err, /the policy does not allow .*: .*allowed\.sh ended with 1/);
    assert.match(err, /It said: no signature of ours/);
  }
  const line = `verify --key k ${registry.host}/app@${digest}`;
  assert.deepEqual(asked(), [line, line, line], 'by digest, also where a tag was named');
  assert.equal(registry.stats.blobBytes, 0, 'nothing of it was read');
  assert.deepEqual(mountsBelow(mounted), []);

  const client = snapshotsClient(join(daemon.directory, 'snapshotter.sock'));
  t.after(() => client.close());
  const manifest = JSON.parse(readFileSync(join(APP_LAYOUT, 'blobs/sha256', digest.slice(7)), 'utf8'));
  const config = JSON.parse(readFileSync(join(APP_LAYOUT, 'blobs/sha256', manifest.config.digest.slice(7)), 'utf8'));
  const image = {
    'containerd.io/snapshot/cri.image-ref': reference,
    'containerd.io/snapshot/cri.manifest-digest': digest,
  };
  let parent = '';
  let chain = '';
  for (const [index, diff] of (config.rootfs.diff_ids as string[]).entries()) {
    chain = chain === '' ? diff : `sha256:${createHash('sha256').update(`${chain} ${diff}`).digest('hex')}`;
    const isLast = index === config.rootfs.diff_ids.length - 1;
    const key = `default/${index}/extract-1 ${chain}`;
    const labels = {
      ...image,
      'containerd.io/snapshot.ref': chain,
      [`containerd.io/snapshot/nydus-${isLast ? 'bootstrap' : 'blob'}`]: 'true',
    };
    const prepared = client.call('Prepare', { key, parent, labels });
    // Data has no files. The bootstrap layer is left to containerd, which has its own ways to refuse an image.
    if (!isLast) await assert.rejects(prepared, /already exists/i);
    else {
      await prepared;
      await client.call('Commit', { key, name: `default/${index}/${chain}`, labels });
    }
    [{ name: parent }] = await client.list(`labels."containerd.io/snapshot.ref"==${chain}`);
  }
  await assert.rejects(client.call('Prepare', { key: 'default/9/container', parent }), /the policy does not allow/);

  allow(true);
  const before = asked().length;
  assert.equal((await daemon.nymph('mount', reference, mounted)).status, 0);
  await checkTree(mounted, APP_MANIFEST);
  assert.equal((await daemon.nymph('pull', reference)).status, 0);
  assert.equal((await daemon.nymph('mount', reference, daemon.place('second'))).status, 0);
  assert.equal(asked().length, before + 1, 'it is remembered');
  const environment = readFileSync(join(daemon.directory, 'env'), 'utf8');
  assert.doesNotMatch(environment, /^(NOTIFY_SOCKET|NYMPH_|NODE_CHANNEL)/m);

  // The next daemon asks again, for what it mounts anew; what is mounted stays.
  const { pid } = await daemon.client.health();
  await daemon.kill('daemon');
  await daemon.another(pid);
  allow(false);
  await checkTree(mounted, APP_MANIFEST);
  const refused = await daemon.nymph('mount', `${registry.host}/app@${digest}`, daemon.place('third'));
  assert.equal(refused.status, EXIT.denied, 'although all of it is here');
});

test('a program that does not answer, or is not there, allows nothing', { skip }, async (t) => {
  const { daemon, reference } = await world(t, '1s', 'exec sleep 1000');
  const { status, err } = await daemon.nymph('mount', reference, daemon.place('image'));
  assert.equal(status, EXIT.denied);
  assert.match(err, /allowed\.sh did not answer within 1 s/);
  rmSync(join(daemon.directory, 'allowed.sh'));
  const gone = await daemon.nymph('mount', reference, daemon.place('image'));
  assert.equal(gone.status, EXIT.denied);
  assert.match(gone.err, /allowed\.sh cannot be run \(ENOENT\)/);
});

test('signatures of cosign', {
  skip: skip || (spawnSync('cosign', ['version']).error ? 'not installed: cosign' : false),
}, async (t) => {
  const { registry, daemon, reference, digest } = await world(t);
  const keys = daemon.place('keys');
  const env = { COSIGN_PASSWORD: '' };
  const cosign = async (...args: string[]) => {
    const { status, err } = await run('cosign', args, { env });
    assert.equal(status, 0, err);
  };
  await cosign('generate-key-pair', '--output-key-prefix', join(keys, 'cosign'));
  const verify = [
    'cosign',
    'verify',
    '--key',
    join(keys, 'cosign.pub'),
    '--insecure-ignore-tlog',
    '--allow-http-registry',
  ];
  const config = join(daemon.directory, 'config.toml');
  writeFileSync(config, readFileSync(config, 'utf8').replace(/^verify = .*$/m, `verify = ${JSON.stringify(verify)}`));
  await daemon.stop();
  await daemon.start();
  const mounted = daemon.place('image');
  const refused = await daemon.nymph('mount', reference, mounted);
  assert.equal(refused.status, EXIT.denied, refused.err);
  assert.match(refused.err, /no signatures/);
  const image = `${registry.host}/app@${digest}`;
  await cosign(
    'sign',
    '--key',
    join(keys, 'cosign.key'),
    '--tlog-upload=false',
    '--allow-http-registry',
    '--yes',
    image,
  );
  const allowed = await daemon.nymph('mount', reference, mounted);
  assert.equal(allowed.status, 0, allowed.err);
  await checkTree(mounted, APP_MANIFEST);
});
