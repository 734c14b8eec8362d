import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const socket = libc.func('int socket(int domain, int type, int protocol)');
const bind = libc.func('int bind(int fd, const void *address, uint32_t length)');
const listen = libc.func('int listen(int fd, int backlog)');
const getsockname = libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *length)');
const close = libc.func('int close(int fd)');

const AF_INET = 2;
const SOCK_STREAM = 1;
/** `struct sockaddr_in`: family, port and address in network order, padding. */
const ADDRESS_SIZE = 16;

/** A port of the loopback address where connections are neither made nor refused: its queue is full, and nobody accepts. */
export async function fullPort(t: { after(clean: () => void): void }): Promise<number> {
  const fd: number = socket(AF_INET, SOCK_STREAM, 0);
  const address = Buffer.alloc(ADDRESS_SIZE);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt32BE(0x7f000001, 4);
  if (
    fd < 0 ||
    bind(fd, address, ADDRESS_SIZE) !== 0 ||
    listen(fd, 0) !== 0 ||
    getsockname(fd, address, [ADDRESS_SIZE]) !== 0
  )
    throw new Error('no port to be had');
  const port = address.readUInt16BE(2);
  // The queue takes one more than it is said to; later ones are dropped by the kernel.
  const waiting = Array.from({ length: 4 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  t.after(() => {
    for (const one of waiting) one.destroy();
    close(fd);
  });
  await sleep(100);
  return port;
}
