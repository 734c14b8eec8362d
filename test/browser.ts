/** A real browser for tests: Chromium without a window, driven by its DevTools protocol. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';

export interface Browser {
  /** Opens a page in a tab of its own. @param scheme what it is told that people prefer */
  open(url: string, scheme?: 'light' | 'dark'): Promise<Tab>;
  close(): Promise<void>;
}

export interface Tab {
  /** The value of an expression in the page; promises are waited for. */
  evaluate<T>(expression: string): Promise<T>;
  /** PNG. */
  screenshot(width: number, height: number): Promise<Buffer>;
  /** What the browser had to say: exceptions, refused scripts, errors of the network. */
  readonly complaints: string[];
  /** Addresses that were asked for. */
  readonly requests: string[];
}

/** Why there is none, or `false`: for the `skip` of tests. */
export function noBrowser(): string | false {
  return spawnSync('chromium', ['--version']).error === undefined ? false : 'needs chromium (Debian package chromium)';
}

interface Message {
  id?: number;
  sessionId?: string;
  method?: string;
  params?: Record<string, never>;
  result?: Record<string, never>;
  error?: { message: string };
}

export async function startBrowser(): Promise<Browser> {
  const profile = mkdtempSync('/tmp/nymph-browser-');
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'];
  const child = spawn(
    'chromium',
    [...flags, '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      // Its own group: it has children of its own.
      detached: true,
    },
  );
  const socket = new WebSocket(await debuggingAddress(child));
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve);
    socket.addEventListener('error', reject);
  });
  const pending = new Map<number, (message: Message) => void>();
  const listeners = new Map<string, (message: Message) => void>();
  let last = 0;
  socket.addEventListener('message', ({ data }) => {
    const message: Message = JSON.parse(String(data));
    if (message.id !== undefined) pending.get(message.id)?.(message);
    else listeners.get(message.sessionId ?? '')?.(message);
  });
  const call = (method: string, params: object, sessionId?: string): Promise<Record<string, never>> =>
    new Promise((resolve, reject) => {
      const id = ++last;
      pending.set(id, ({ result, error }) => {
        pending.delete(id);
        if (error === undefined) resolve(result ?? {});
        else reject(new Error(`${method}: ${error.message}`));
      });
      socket.send(JSON.stringify({ id, method, params, ...(sessionId !== undefined && { sessionId }) }));
    });

  return {
    async open(url, scheme = 'light') {
      const { targetId } = await call('Target.createTarget', { url: 'about:blank' });
      const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
      const complaints: string[] = [];
      const requests: string[] = [];
      listeners.set(sessionId, ({ method, params = {} }) => {
        const entry = (params as unknown as { entry?: { level: string } }).entry;
        if (method === 'Runtime.exceptionThrown' || entry?.level === 'error') complaints.push(JSON.stringify(params));
        if (method === 'Network.requestWillBeSent')
          requests.push((params as unknown as { request: { url: string } }).request.url);
      });
      for (const domain of ['Runtime', 'Log', 'Network', 'Page']) await call(`${domain}.enable`, {}, sessionId);
      const features = [{ name: 'prefers-color-scheme', value: scheme }];
      await call('Emulation.setEmulatedMedia', { features }, sessionId);
      await call('Page.navigate', { url }, sessionId);
      return {
        complaints,
        requests,
        async evaluate(expression) {
          const options = { expression, awaitPromise: true, returnByValue: true };
          const { result, exceptionDetails } = await call('Runtime.evaluate', options, sessionId);
          if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
          return (result as { value: never }).value;
        },
        async screenshot(width, height) {
          const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
          await call('Emulation.setDeviceMetricsOverride', metrics, sessionId);
          const { data } = await call('Page.captureScreenshot', { format: 'png' }, sessionId);
          return Buffer.from(data as string, 'base64');
        },
      };
    },
    async close() {
      const ended = new Promise((resolve) => child.once('close', resolve));
      socket.close();
      if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      await ended;
      rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
    },
  };
}

async function debuggingAddress(child: ChildProcess): Promise<string> {
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stderr! })) {
    said.push(line);
    const address = /DevTools listening on (ws:\S+)/.exec(line)?.[1];
    if (address !== undefined) return address;
  }
  throw new Error(`chromium does not start: ${said.join('\n')}`);
}
