import koffi from 'koffi';
import { NymphError } from '../errors.ts';

/** Datagrams to a service manager. Node has no unix datagram sockets, and cannot send descriptors along: libc does. */
export interface NotifySocket {
  /**
   * Sends one message (sd_notify(3)): `KEY=value` lines. Never waits.
   * @param fd a descriptor that goes along
   * @returns false if the receiver takes no more now, or is gone
   */
  send(text: string, fd?: number): boolean;
}

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** `struct cmsghdr` of a 64-bit Linux: length (8 bytes), level (4), type (4); data padded to 8. */
const CMSG_HEADER = 16;
/** `sockaddr_un.sun_path` (unix(7)). */
const MOST_PATH = 108;

const libc = koffi.load('libc.so.6');
koffi.struct('nymph_iovec', { base: 'void *', length: 'size_t' });
koffi.struct('nymph_msghdr', {
  name: 'void *',
  nameLength: 'uint32_t',
  iov: 'nymph_iovec *',
  iovLength: 'size_t',
  control: 'void *',
  controlLength: 'size_t',
  flags: 'int',
});
const socket = libc.func('int socket(int domain, int type, int protocol)');
const sendmsg = libc.func('int64_t sendmsg(int fd, const nymph_msghdr *message, int flags)');

/**
 * @param address $NOTIFY_SOCKET: a path, or `@name` in the abstract namespace
 * @throws NymphError `config` for another address, `internal` if there is no socket to be had
 */
export function openNotifySocket(address: string): NotifySocket {
  const name = socketAddress(address);
  const fd: number = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new NymphError('internal', `no socket for $NOTIFY_SOCKET: errno ${koffi.errno()}`);
  return {
    send(text, passed) {
      const bytes = Buffer.from(text);
      const control = passed === undefined ? null : rights(passed);
      const message = {
        name,
        nameLength: name.length,
        iov: [{ base: bytes, length: bytes.length }],
        iovLength: 1,
        control,
        controlLength: control?.length ?? 0,
        flags: 0,
      };
      return sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
    },
  };
}

/** `struct sockaddr_un`; an abstract name begins with a NUL, and ends where the length says. */
function socketAddress(address: string): Buffer {
  const path = Buffer.from(address);
  if (!/^[/@]./.test(address) || path.length > MOST_PATH)
    throw new NymphError('config', `$NOTIFY_SOCKET is no address of a unix socket: ${address}`);
  if (address.startsWith('@')) path[0] = 0;
  const name = Buffer.alloc(2 + path.length);
  name.writeUInt16LE(AF_UNIX);
  path.copy(name, 2);
  return name;
}

function rights(fd: number): Buffer {
  const control = Buffer.alloc(CMSG_HEADER + 8);
  control.writeBigUInt64LE(BigInt(CMSG_HEADER + 4), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  control.writeInt32LE(fd, CMSG_HEADER);
  return control;
}
