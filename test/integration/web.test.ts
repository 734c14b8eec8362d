/** The page and the TCP port: what they show, to whom, and what a browser makes of it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { noBrowser, startBrowser } from '../browser.ts';
import { cannotMount, run, testDaemon, until } from '../daemon.ts';
import { freePort } from '../free-port.ts';
import { ask } from '../http.ts';
import { makeImage } from '../made-image.ts';
import { startRegistry } from '../registry/registry.ts';

const TOKEN = 'a token is no word'.replaceAll(' ', '-');

describe('over TCP', { skip: cannotMount() }, () => {
  test('metrics and health are open, all else needs the token, and nothing can be changed', async (t) => {
    const port = await freePort();
    const file = join(mkdtempSync('/tmp/nymph-'), 'token');
    t.after(() => rmSync(dirname(file), { recursive: true }));
    writeFileSync(file, `${TOKEN}\n`);
    const daemon = await testDaemon(t, { toml: `[control]\nlisten = "127.0.0.1:${port}"\ntoken = "${file}"` });
    const to = `127.0.0.1:${port}`;
    const get = (path: string, token?: string, method = 'GET') =>
      ask(to, path, { method, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });
    for (const path of ['/', '/metrics', '/v1/health', '/v1/ready']) assert.equal((await get(path)).status, 200, path);
    for (const path of ['/v1/live', '/v1/status', '/v1/mounts', '/v1/images', '/v1/images/a', '/v1/other', '/x']) {
      const refused = await get(path);
      assert.equal(refused.status, 401, path);
      assert.equal(JSON.parse(refused.body).error.code, 'denied');
      assert.match(refused.headers['www-authenticate']!, /^Bearer/);
      assert.equal((await get(path, `${TOKEN}x`)).status, 401, path);
      assert.equal((await get(path, '')).status, 401, path);
    }
    for (const path of ['/v1/live', '/v1/status', '/v1/mounts', '/v1/images'])
      assert.equal((await get(path, TOKEN)).status, 200, path);
    for (const [method, path] of [
      ['POST', '/v1/stop'],
      ['POST', '/v1/prune'],
      ['DELETE', '/v1/mounts?directory=/x'],
      ['POST', '/metrics'],
    ]) {
      assert.equal((await get(path, undefined, method)).status, 401, path);
      assert.equal((await get(path, TOKEN, method)).status, 404, path);
    }
    // A new token counts at once, and one that is gone opens nothing.
    writeFileSync(file, `${TOKEN}-2`);
    assert.equal((await get('/v1/live', TOKEN)).status, 401);
    assert.equal((await get('/v1/live', `${TOKEN}-2`)).status, 200);
    rmSync(file);
    assert.equal((await get('/v1/live', `${TOKEN}-2`)).status, 401);
    assert.equal((await daemon.told('nobody can show the token')).length, 1);
    // Who can open the socket needs none.
    assert.equal((await ask(daemon.address, '/v1/live')).status, 200);
    assert.equal((await ask(daemon.address, '/v1/health')).status, 200);
    assert.ok(!daemon.logged(TOKEN).length, 'no token in the log');
  });

  test('without a token file nothing but metrics and health is told; a bad file is told of', async (t) => {
    const ports = [await freePort(), await freePort()];
    const daemon = await testDaemon(t, { toml: `[control]\nlisten = "127.0.0.1:${ports[0]}"` });
    assert.equal((await ask(`127.0.0.1:${ports[0]}`, '/metrics')).status, 200);
    const refused = await ask(`127.0.0.1:${ports[0]}`, '/v1/live', { headers: { authorization: 'Bearer undefined' } });
    assert.equal(refused.status, 401);
    assert.match(refused.body, /control\.token/);
    assert.equal((await ask(daemon.address, '/v1/ready')).status, 200);

    const short = join(daemon.directory, 'short');
    writeFileSync(short, 'short');
    const other = await testDaemon(t, { toml: `[control]\nlisten = "127.0.0.1:${ports[1]}"\ntoken = "${short}"` });
    const ready = await ask(other.address, '/v1/ready');
    assert.equal(ready.status, 503);
    assert.match(ready.body, /has no token of 16 characters/);
    assert.match((await other.nymph('doctor')).out.toString(), /control\.token.*has no token of 16 characters/);
    await assert.rejects(ask(`127.0.0.1:${ports[1]}`, '/metrics'), { code: 'ECONNREFUSED' });
  });

  test('a port that is taken is waited for', async (t) => {
    const taker: Server = createServer();
    await new Promise<void>((resolve) => taker.listen(0, '127.0.0.1', resolve));
    t.after(() => taker.close());
    const { port } = taker.address() as { port: number };
    const daemon = await testDaemon(t, { toml: `[control]\nlisten = "127.0.0.1:${port}"` });
    await until(20_000, 'it is said to be ready', async () => {
      const { status, body } = await ask(daemon.address, '/v1/ready');
      return status === 503 && body.includes('EADDRINUSE') ? true : undefined;
    });
    taker.close();
    await until(20_000, 'it is not listened on', async () =>
      (await ask(daemon.address, '/v1/ready')).status === 200 ? true : undefined,
    );
    assert.equal((await ask(`127.0.0.1:${port}`, '/metrics')).status, 200);
  });
});

describe('the page in a browser', { skip: cannotMount() || noBrowser() }, () => {
  test('draws an image as it fills, asks nobody else, and wants the token first', async (t) => {
    const directory = mkdtempSync('/tmp/nymph-');
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const image = await makeImage(directory, 'app', (tree) => {
      for (let i = 0; i < 20; i++) writeFileSync(join(tree, `file-${i}`), randomBytes(200_000));
    });
    const registry = await startRegistry({ layouts: { app: image.layout } });
    t.after(() => registry.close());
    const file = join(directory, 'token');
    writeFileSync(file, TOKEN);
    const port = await freePort();
    const daemon = await testDaemon(t, { toml: `[control]\nlisten = "127.0.0.1:${port}"\ntoken = "${file}"` });
    const place = daemon.place('image');
    const reference = `${registry.host}/app:app`;
    await daemon.client.mount({ reference, directory: place, options: { prefetch: 'none' } });

    const browser = await startBrowser();
    t.after(() => browser.close());
    const tab = await browser.open(`http://127.0.0.1:${port}/`);
    const shown = (what: string, expression: string) =>
      until(
        60_000,
        `the page does not show ${what}`,
        async () => (await tab.evaluate<boolean>(expression)) || undefined,
      );
    await shown('the form for the token', `!document.getElementById('login').hidden`);
    await tab.evaluate(`document.getElementById('token').value = 'wrong-wrong-wrong-wrong';
      document.querySelector('form').requestSubmit()`);
    await shown('that the token is wrong', `document.getElementById('state').textContent === 'the token is wrong'`);
    tab.complaints.length = 0;
    await tab.evaluate(`document.getElementById('token').value = '${TOKEN}';
      document.querySelector('form').requestSubmit()`);
    await shown('the image', `document.querySelector('.name')?.textContent === '${reference}'`);
    assert.equal(await tab.evaluate(`document.getElementById('login').offsetParent === null`), true);

    /** How many squares of the map have the colour of what is here, or of what has just come. */
    const filled = `(() => {
      const map = document.querySelector('canvas.map');
      const { data } = map.getContext('2d').getImageData(0, 0, map.width, map.height);
      let count = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && Math.max(...data.slice(i, i + 3)) - Math.min(...data.slice(i, i + 3)) > 60) count++;
      return count / (data.length / 4);
    })()`;
    const before = await tab.evaluate<number>(filled);
    assert.ok(before < 0.1, `${before} of the map is filled`);
    for (let i = 0; i < 20; i++) assert.equal((await run('cat', [join(place, `file-${i}`)])).status, 0);
    await shown('that all is here', `document.querySelector('.ready').textContent === '100%'`);
    await shown('a full map', `${filled} > 0.4`);
    await shown('the source', `document.querySelector('#sources td').textContent === '${registry.host}'`);
    await shown('whole shares', `document.querySelector('#share div').style.width === '100%'`);
    await shown('faults', `/^≤ /.test(document.getElementById('median').textContent)`);
    assert.deepEqual(tab.complaints, [], 'nothing is refused or fails');
    const hosts = new Set(tab.requests.map((url) => new URL(url).host));
    assert.deepEqual([...hosts], [`127.0.0.1:${port}`]);
    const picture = await tab.screenshot(1200, 900);
    assert.deepEqual(picture.subarray(0, 4), Buffer.from('\x89PNG', 'latin1'));

    // Of an image with many files the largest have a map.
    const many = `showImages([{ reference: 'many', digest: 'd', kind: 'fuse', mounts: [], size: 1900, ready: 190, faults: 0,
      failed: 0, bytes: {}, blobs: Array.from({ length: 20 }, (_, i) => ({ id: 'i' + i, path: 'f' + i, size: 10 * i, ready: i, cells: 'AP8=' })) }])`;
    assert.deepEqual(
      await tab.evaluate(`(() => { ${many}; const texts = Array.from(document.querySelectorAll('.blob'), (line) => line.textContent);
        const maps = document.querySelectorAll('canvas.map').length; look(); return [texts[0], texts[8], maps]; })()`),
      ['f1919 B of 190 B', 'all smaller ones: 66 B of 660 B', 8],
    );

    // What would be injected does not run.
    await tab.evaluate(`document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.injected = 1">');
      document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.injected = 1' }))`);
    await until(20_000, 'the browser refuses nothing', async () => tab.complaints.length >= 2 || undefined);
    assert.equal(await tab.evaluate('typeof window.injected'), 'undefined');

    await daemon.client.unmount(place, false);
    await shown('that nothing is mounted', `document.querySelectorAll('.name').length === 0`);
    await daemon.stop();
    await shown('that the daemon is away', `/does not answer/.test(document.getElementById('state').textContent)`);
  });
});
