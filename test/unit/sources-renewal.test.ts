import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { openRepository } from '../../src/sources/open.ts';
import { type CapturedCredentials, createCaptured } from '../../src/sources/registry/captured.ts';
import { createRegistryNetwork, type NetworkOptions } from '../../src/sources/registry/network.ts';
import type { Source } from '../../src/sources/source.ts';
import type { BasicAuth, TokenAuth } from '../registry/faults.ts';
import { type MadeLayout, makeLayout } from '../registry/layout.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { collect, known } from '../source-suite.ts';

/** Credentials that change while an image is mounted, for months: from each place, and by each way of asking for them. */

let directory: string;
let layout: MadeLayout;
let count = 0;
const never = new AbortController().signal;
const closers: (() => Promise<void>)[] = [];

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-renewal-'));
  layout = await makeLayout(join(directory, 'layout'), [600_000]);
});
after(() => rm(directory, { recursive: true, force: true }));
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

type Auth = TokenAuth | BasicAuth;
const WAYS: Record<string, (password: string) => Auth> = {
  'a token': (password) => ({ kind: 'token', username: 'me', password }),
  'a password': (password) => ({ kind: 'basic', username: 'me', password }),
  'a password, and 403 for one that expired': (password) => ({
    kind: 'basic',
    username: 'me',
    password,
    forbids: true,
  }),
};

async function registry(auth: Auth): Promise<TestRegistry> {
  const started = await startRegistry({ layouts: { app: layout.path, other: layout.path }, faults: { auth } });
  closers.push(() => started.close());
  return started;
}

function open(server: TestRegistry, options: NetworkOptions, name = 'app'): Source {
  const network = createRegistryNetwork({ configDirs: [], credentials: join(directory, 'none'), ...options });
  closers.push(() => network.close());
  return openRepository(`${server.host}/${name}`, { network }).open(layout.blobs[0]);
}

async function read(source: Source): Promise<void> {
  const bytes = await collect(await source.read(1000, 5000, never));
  assert.ok(bytes.equals(layout.blobs[0].bytes.subarray(1000, 6000)));
}

const entry = (password: string) => ({ auth: Buffer.from(`me:${password}`).toString('base64') });

async function place(name: string, text: string): Promise<string> {
  const path = join(directory, `${count++}`);
  await mkdir(path);
  await writeFile(join(path, name), text);
  return path;
}

/** Each place: options for it, and how its password changes. */
const PLACES: Record<
  string,
  (host: string, password: string) => Promise<{ options: NetworkOptions; change(password: string): Promise<void> }>
> = {
  'Docker’s file': async (host, password) => {
    const text = (now: string) => JSON.stringify({ auths: { [host]: entry(now) } });
    const file = join(await place('config.json', text(password)), 'config.json');
    return { options: { credentials: file }, change: (now) => writeFile(file, text(now)) };
  },
  'a credential helper': async (host, password) => {
    const bin = await place('docker-credential-nymph-test', '');
    const helper = join(bin, 'docker-credential-nymph-test');
    const change = (now: string) =>
      writeFile(helper, `#!/bin/sh\ncat >/dev/null; echo '{"Username":"me","Secret":"${now}"}'\n`);
    await change(password);
    await chmod(helper, 0o755);
    const file = join(
      await place('config.json', JSON.stringify({ credHelpers: { [host]: 'nymph-test' } })),
      'config.json',
    );
    const { PATH } = process.env;
    process.env.PATH = `${bin}:${PATH}`;
    closers.push(async () => {
      process.env.PATH = PATH;
    });
    return { options: { credentials: file }, change };
  },
  'a pull secret': async (host, password) => {
    const text = (now: string) => JSON.stringify({ auths: { [host]: entry(now) } });
    const mount = await place('.dockerconfigjson', text(password));
    return {
      options: { secretsDirs: [mount] },
      change: (now) => writeFile(join(mount, '.dockerconfigjson'), text(now)),
    };
  },
  'a pull': async (host, password) => {
    const captured = capture(host, password);
    return {
      options: { captured },
      change: async (now) => captured.capture(host, 'app', { kind: 'basic', username: 'me', password: now }).keep(),
    };
  },
};

function capture(host: string, password: string, repository = 'app'): CapturedCredentials {
  const captured = createCaptured(undefined, assert.fail);
  captured.capture(host, repository, { kind: 'basic', username: 'me', password }).keep();
  return captured;
}

for (const [way, auth] of Object.entries(WAYS)) {
  for (const [name, make] of Object.entries(PLACES)) {
    test(`renewed for ${way}: ${name}`, async () => {
      const server = await registry(auth('old-hunter2'));
      const { options, change } = await make(server.host, 'old-hunter2');
      const source = open(server, options);
      await read(source);
      server.faults.auth = auth('new-hunter2');
      server.revokeTokens();
      await assert.rejects(source.read(0, 10, never), (error) => {
        assert.doesNotMatch(`${error} ${(error as { hint?: string }).hint} ${(error as Error).cause}`, /hunter2/);
        return known({ code: 'denied', retryable: false })(error);
      });
      await change('new-hunter2');
      await Promise.all(Array.from({ length: 8 }, () => read(source)));
    });
  }

  test(`several credentials for one host, for ${way}: each is tried, those of the pull first`, async () => {
    const server = await registry(auth('right'));
    const secrets: string[] = [];
    for (const password of ['wrong', 'worse', 'right'])
      secrets.push(await place('.dockerconfigjson', JSON.stringify({ auths: { [server.host]: entry(password) } })));
    const captured = capture(server.host, 'stale');
    await read(open(server, { secretsDirs: secrets, captured }));
    await Promise.all(Array.from({ length: 4 }, () => read(open(server, { secretsDirs: secrets, captured }))));
    await assert.rejects(
      open(server, { secretsDirs: secrets.slice(0, 2), captured }).read(0, 10, never),
      known({ code: 'denied', hint: /login of its last pull was refused; the secret .* was refused; the secret/ }),
    );
    const before = server.stats.requests;
    await read(open(server, { captured: capture(server.host, 'right'), secretsDirs: secrets }));
    assert.ok(server.stats.requests - before <= 3, 'the credential of the pull is asked for first');
  });
}

test('what came with the pull of one repository is not used for another', async () => {
  const server = await registry(WAYS['a password']('right'));
  const source = open(server, { captured: capture(server.host, 'right', 'other') });
  await assert.rejects(source.read(0, 10, never), known({ code: 'denied', message: /wants a login/ }));
});

test('a login that may not read is asked about once, not for ever', async () => {
  const server = await registry(WAYS['a token']('right'));
  const source = open(server, { captured: capture(server.host, 'right') });
  await read(source);
  server.faults.status = { on: 'blob', code: 403 };
  const before = server.stats.requests;
  await assert.rejects(source.read(0, 10, never), known({ code: 'denied', message: /status 403/ }));
  assert.ok(server.stats.requests - before <= 4, `${server.stats.requests - before} requests`);
  server.faults.status = undefined;
  await read(source);
});
