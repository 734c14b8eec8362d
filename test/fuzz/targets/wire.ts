/** What stands on the socket: answers of a registry that need not be HTTP. Slow, as each has a connection of its own. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createRegistryNetwork } from '../../../src/sources/registry/network.ts';
import { openRegistryRepository } from '../../../src/sources/registry/repository.ts';
import { skipPauses } from '../scripted-network.ts';
import { ensure, type Target } from '../target.ts';

skipPauses();

const LENGTH = 20;
const TIMEOUTS = { connect: 5000, header: 5000, body: 5000 };
const answer = (status: string, headers: string[], body: string) =>
  Buffer.from([`HTTP/1.1 ${status}`, ...headers, '', body].join('\r\n'), 'latin1');

export const target: Target = {
  name: 'wire',
  text: true,
  share: 0.02,
  seeds: () => [
    answer('206 Partial Content', ['Content-Range: bytes 0-19/36', 'Content-Length: 20'], '01234567890123456789'),
    answer(
      '206 Partial Content',
      ['Content-Range: bytes 0-19/36', 'Transfer-Encoding: chunked'],
      '14\r\n01234567890123456789\r\n0\r\n\r\n',
    ),
    answer('200 OK', ['Content-Length: 36'], '012345678901234567890123456789abcdef'),
    answer('307 Temporary Redirect', ['Location: /elsewhere', 'Content-Length: 0'], ''),
    answer('401 Unauthorized', ['WWW-Authenticate: Basic realm="x"', 'Content-Length: 2'], '{}'),
    answer('100 Continue', [], 'HTTP/1.1 200 OK\r\n\r\n01234567890123456789'),
  ],
  errors: ['unsupported', 'denied', 'source', 'not-found', 'timeout'],
  limit: 4 << 10,
  words: [
    'HTTP/1.1 ',
    'HTTP/1.0 ',
    '\r\n',
    '\r\n\r\n',
    '206',
    '101 Switching Protocols',
    '204',
    '304',
    'Content-Length: ',
    'Content-Range: bytes 0-19/36',
    'Transfer-Encoding: chunked',
    'Connection: upgrade',
    'Trailer: x',
    'ffffffffffffffff\r\n',
    'Location: ',
    'Content-Encoding: gzip',
  ],
  async run(input) {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      // The client hangs up when it has seen enough.
      socket.on('error', () => {});
      socket.once('data', () => socket.end(input));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const network = createRegistryNetwork({ configDirs: [], credentials: '/nowhere/config.json', timeouts: TIMEOUTS });
    try {
      const source = openRegistryRepository({ kind: 'registry', host, repository: 'app', tag: 't' }, network).open({
        digest: `sha256:${'ab'.repeat(32)}`,
      });
      let length = 0;
      for await (const piece of await source.read(0, LENGTH, new AbortController().signal)) length += piece.length;
      ensure(length === LENGTH, `${length} bytes`);
      return 'read';
    } finally {
      await network.close();
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  },
};
