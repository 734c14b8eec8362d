/**
 * A secret in each place where one may be, and servers that refuse it and say it back: it must be seen nowhere. Logins of
 * registries have a test of their own (`credentials.test.ts`).
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { cannotMount, processesWith, run, testDaemon } from '../daemon.ts';
import { APP_LAYOUT } from '../fixtures.ts';
import { freePort } from '../free-port.ts';
import { startRegistry } from '../registry/registry.ts';

const SECRETS = {
  docker: 'hush-docker-login',
  answer: 'hush-token-answer',
  hosts: 'hush-hosts-header',
  proxy: 'hush-proxy',
  hf: 'hf_hush-hub',
  environment: 'hf_hush-environment',
  s3: 'hush-s3-key',
  nydusd: 'hush-nydusd-auth',
  manager: 'hush-manager',
  page: 'hush-page-token-of-the-test',
};

const encode = (text: string) => Buffer.from(text).toString('base64');
const TRACES = Object.values(SECRETS).flatMap((secret) => [
  secret,
  encode(secret).replace(/=+$/, ''),
  encode(`me:${secret}`).replace(/=+$/, ''),
]);

/** A server that gives tokens, and refuses everything with what it was told. */
async function refuser(t: TestContext): Promise<string> {
  const server = createServer((request, response) => {
    const said = JSON.stringify(request.headers);
    if (request.url?.startsWith('/token'))
      return response.end(JSON.stringify({ token: SECRETS.answer, access_token: SECRETS.answer }));
    const realm = `http://${request.headers.host}/token`;
    response.writeHead(request.headers.authorization ? 403 : 401, {
      'www-authenticate': `Bearer realm="${realm}",service="${said.replace(/["\\]/g, '')}"`,
      'content-type': 'application/json',
      'x-echo': said,
    });
    response.end(JSON.stringify({ errors: [{ code: 'DENIED', message: `you said ${said}` }], error: said }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('secrets are not in logs, errors, answers, arguments, files of others, or core dumps', {
  skip: cannotMount(),
}, async (t) => {
  const host = await refuser(t);
  const registry = await startRegistry({ layouts: { app: APP_LAYOUT } });
  t.after(() => registry.close());
  const daemon = await testDaemon(t, { start: false });
  const at = (name: string) => join(daemon.directory, name);
  const write = (name: string, text: string) => {
    writeFileSync(at(name), text, { mode: 0o600 });
    return at(name);
  };
  const auths = { [host]: { auth: encode(`me:${SECRETS.docker}`) } };
  const docker = write('docker.json', JSON.stringify({ auths }));
  mkdirSync(at(`hosts/${host}`), { recursive: true });
  write(
    `hosts/${host}/hosts.toml`,
    `server = "http://${host}"\n[host."http://${host}/mirror".header]\nauthorization = ["Bearer ${SECRETS.hosts}"]\n`,
  );
  writeFileSync(
    at('config.toml'),
    `root = "${daemon.root}"\naddress = "${daemon.address}"\n[log]\nlevel = "debug"\nformat = "json"\n` +
      `[registry]\ncredentials = "${docker}"\nconfig_dirs = ["${at('hosts')}"]\nplain_http = ["${host}", "other.invalid", "${registry.host}"]\n` +
      `[hub]\nendpoints = { hf = "http://${host}" }\ntoken_files = { hf = "${write('hf', SECRETS.hf)}" }\n` +
      `[dragonfly]\nmanager = "http://${host}"\nmanager_token = "${write('manager', SECRETS.manager)}"\n` +
      `[control]\nlisten = "127.0.0.1:${await freePort()}"\ntoken = "${write('page', SECRETS.page)}"\n`,
  );
  const backend = (type: string, config: object) =>
    write(`${type}.json`, JSON.stringify({ version: 2, backend: { type, [type]: config } }));
  const s3 = { endpoint: host, region: 'r', bucket_name: 'bucket', object_prefix: 'p', scheme: 'http' };
  const configs = [
    backend('s3', { ...s3, access_key_id: 'me', access_key_secret: SECRETS.s3 }),
    backend('registry', { host, repo: 'app', scheme: 'http', auth: encode(`me:${SECRETS.nydusd}`) }),
  ];
  const environment = {
    HF_TOKEN: SECRETS.environment,
    HTTP_PROXY: `http://me:${SECRETS.proxy}@${host}`,
    HTTPS_PROXY: `http://me:${SECRETS.proxy}@${host}`,
    NO_PROXY: registry.host,
  };
  const before = { ...process.env };
  Object.assign(process.env, environment);
  t.after(() => {
    for (const name of Object.keys(environment))
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
  });
  await daemon.start();

  const seen: string[] = [];
  const arguments_: string[] = [];
  const nymph = async (...args: string[]) => {
    const { status, out, err } = await daemon.nymph(...args);
    seen.push(out.toString(), err);
    return status;
  };
  const mounted = daemon.place('image');
  assert.equal(await nymph('mount', `${registry.host}/app:nydus`, mounted), 0);
  const refused = [
    ['mount', `${host}/app:1`, daemon.place('none')],
    ['mount', `other.invalid/app:1`, daemon.place('none')],
    ['mount', 'hf://me/private', daemon.place('none')],
    ['pull', `${host}/app@sha256:${'0'.repeat(64)}`],
    ['preheat', `${host}/app:1`],
    ['inspect', `${host}/app:1`],
    ['run-check', `${host}/app:1`],
    ['convert', `${host}/app:1`, `${host}/app:2`],
    ['trace', '--push', `${host}/app:1`],
    ...configs.map((config) => ['inspect', `nydusd:${config}:${host}/app:1`]),
    ...configs.map((config) => ['mount', '--nydusd-config', config, `${host}/app:1`, daemon.place('none')]),
  ];
  for (const args of refused) assert.notEqual(await nymph('--verbose', ...args), 0, args.join(' '));
  for (const args of [
    ['ls'],
    ['status'],
    ['status', `${registry.host}/app:nydus`],
    ['trace', `${registry.host}/app:nydus`],
    ['doctor', `${host}/app:1`],
    ['plugin', 'ls'],
  ])
    await nymph(...args);
  for (const path of ['/v1/status', '/v1/images', '/v1/live', '/metrics', '/v1/health', '/v1/ready'])
    seen.push((await run('curl', ['-s', '--unix-socket', daemon.address, `http://nymph${path}`])).out.toString());
  seen.push(...daemon.logged(''));
  assert.ok(seen.join('\n').includes(host), 'the errors are here');

  const { pid, supervisor } = await daemon.supervised();
  for (const one of [...processesWith(daemon.directory), pid, supervisor!])
    arguments_.push(readFileSync(`/proc/${one}/cmdline`, 'latin1'));
  // What is kept on the disk: only in places that are meant for it, which root alone can read.
  const kept = (readdirSync(daemon.root, { recursive: true }) as string[]).map((name) => join(daemon.root, name));
  for (const path of kept.filter((name) => /\.(db|db-wal|json|toml|trace)$/.test(name) && statSync(name).isFile()))
    seen.push(readFileSync(path, 'latin1'));

  const all = [...seen, ...arguments_].join('\n');
  for (const trace of TRACES) {
    const index = all.indexOf(trace);
    assert.equal(index, -1, `${trace} is seen: ${all.slice(Math.max(0, index - 300), index + 100)}`);
  }

  const settable = (await run('test', ['-w', '/proc/sys/kernel/core_pattern'])).status === 0;
  if (!settable) return t.diagnostic('core dumps are not tried: /proc/sys cannot be written');
  // The kernel writes no core of a process that is not dumpable, and shows its environment to root alone.
  const killed = await dumpOf(pid, at('core'));
  assert.equal(killed, undefined, 'a core dump was made');
});

/** Kills the daemon as a fault would; returns the name of a core file, if one was made in its directory. */
async function dumpOf(pid: number, name: string): Promise<string | undefined> {
  const limits = await run('prlimit', ['--pid', String(pid), '--core=unlimited']);
  assert.equal(limits.status, 0, limits.err);
  const pattern = readFileSync('/proc/sys/kernel/core_pattern', 'utf8');
  writeFileSync('/proc/sys/kernel/core_pattern', `${name}.%p`);
  try {
    process.kill(pid, 'SIGSEGV');
    while (true) {
      try {
        process.kill(pid, 0);
      } catch {
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    writeFileSync('/proc/sys/kernel/core_pattern', pattern.trimEnd());
  }
  return readdirSync(join(name, '..')).find((file) => file.startsWith('core.'));
}
