import type { ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';

const http2 = process.getBuiltinModule('node:http2');

/** A connection to containerd, made when it is needed, and again after it was lost. */
export interface Backend {
  /** @throws what the socket throws */
  session(): Promise<ClientHttp2Session>;
  close(): void;
}

/** @param address unix socket of a gRPC server */
export function createBackend(address: string): Backend {
  const sessions = new Set<ClientHttp2Session>();
  let current: Promise<ClientHttp2Session> | undefined;

  const open = (left: () => void) =>
    new Promise<ClientHttp2Session>((resolve, reject) => {
      const session = http2.connect('http://localhost', { createConnection: () => connect(address) });
      sessions.add(session);
      // After GOAWAY what is under way goes on there, and what is new goes to a new connection.
      session.on('goaway', left);
      session.on('close', () => {
        sessions.delete(session);
        left();
      });
      session.on('error', (error) => {
        left();
        reject(error);
      });
      session.once('connect', () => resolve(session));
    });

  return {
    session() {
      if (current) return current;
      const made = open(() => {
        if (current === made) current = undefined;
      });
      current = made;
      return made;
    },
    close() {
      for (const session of sessions) session.destroy();
    },
  };
}
