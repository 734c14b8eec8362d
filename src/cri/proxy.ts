import { chmod } from 'node:fs/promises';
import type { ServerHttp2Session } from 'node:http2';
import type { Log } from '../sources/log.ts';
import type { Capture, CapturedCredentials } from '../sources/registry/captured.ts';
import { createBackend } from './backend.ts';
import { messageCollector } from './message.ts';
import { type PullLogin, pullRequestReader } from './pull-request.ts';
import { type Observer, relay } from './relay.ts';

const http2 = process.getBuiltinModule('node:http2');

/** The CRI's ImageService on a socket of ours: the kubelet asks us, containerd answers, and we remember logins. */
export interface ImageServiceProxy {
  close(): Promise<void>;
}

export interface ProxyOptions {
  /** Our unix socket. */
  address: string;
  /** containerd's unix socket. */
  containerd: string;
  captured: CapturedCredentials;
  log: Log;
}

/** `/runtime.v1.ImageService/PullImage`; 1.6 still speaks `v1alpha2`, with the same fields. */
const PULL = /^\/runtime\.v1(?:alpha2)?\.ImageService\/PullImage$/;

/**
 * Listens on the unix socket `address` (mode 0600), where no file may be, and passes every call on to containerd as it
 * is.
 */
export async function serveImageService(options: ProxyOptions): Promise<ImageServiceProxy> {
  const { address, containerd, captured, log } = options;
  const backend = createBackend(containerd);
  const sessions = new Set<ServerHttp2Session>();
  const readRequest = pullRequestReader();
  const server = http2.createServer();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', (error) => log.debug({ error: error.message }, 'a connection to the CRI socket failed'));
  });
  server.on('stream', (stream, headers) => {
    const observer = PULL.test(headers[':path'] ?? '') ? observePull(captured, readRequest, log) : {};
    void relay(backend, stream, headers, observer);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, resolve);
  });
  await chmod(address, 0o600);
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.destroy();
      backend.close();
      await closed;
    },
  };
}

/** The login is good from the moment that it passes by: containerd asks the snapshotter during the pull. */
function observePull(
  captured: CapturedCredentials,
  readRequest: (message: Buffer) => PullLogin | undefined,
  log: Log,
): Observer {
  let capture: Capture | undefined;
  return {
    request: messageCollector((message, problem) => {
      if (!message) return log.warn({ problem }, 'the login of a pull cannot be read');
      const login = readLogin(message, readRequest, log);
      if (!login) return;
      const { host, repository, credential } = login;
      log.debug({ host, repository }, 'a pull brought a login');
      capture = captured.capture(host, repository, credential);
    }),
    ended(status) {
      if (status === '0') capture?.keep();
      else capture?.drop();
    },
  };
}

function readLogin(
  message: Buffer,
  readRequest: (message: Buffer) => PullLogin | undefined,
  log: Log,
): PullLogin | undefined {
  try {
    return readRequest(message);
  } catch {
    // Containerd says to the client what is wrong with it. The error may quote the message, which has a password.
    log.warn(
      { problem: 'it is no PullImageRequest, or its image has no valid name' },
      'the login of a pull cannot be read',
    );
    return undefined;
  }
}
