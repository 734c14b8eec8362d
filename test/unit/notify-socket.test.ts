import assert from 'node:assert/strict';
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import koffi from 'koffi';
import { openNotifySocket } from '../../src/daemon/notify-socket.ts';

const libc = koffi.load('libc.so.6');
const socket = libc.func('int socket(int domain, int type, int protocol)');
const bind = libc.func('int bind(int fd, const uint8_t *name, uint32_t length)');
const recvmsg = libc.func('int64_t recvmsg(int fd, _Inout_ nymph_msghdr *message, int flags)');

/** A receiver as a service manager is one. `name`: a path, or a NUL and a name. */
function receiver(name: string): { fd: number; next(): { text: string; passed?: number } } {
  const fd = socket(1, 2, 0);
  const path = Buffer.from(name);
  const address = Buffer.concat([Buffer.from([1, 0]), path]);
  assert.equal(bind(fd, address, address.length), 0);
  const next = () => {
    const base = Buffer.alloc(4096);
    const control = Buffer.alloc(24);
    const message = {
      name: null,
      nameLength: 0,
      iov: [{ base, length: base.length }],
      iovLength: 1,
      control,
      controlLength: control.length,
      flags: 0,
    };
    const length = Number(recvmsg(fd, message, 0x40));
    assert.ok(length > 0, 'a message');
    const passed = message.controlLength >= 20 ? control.readInt32LE(16) : undefined;
    return { text: base.toString('utf8', 0, length), passed };
  };
  return { fd, next };
}

for (const kind of ['a path', 'the abstract namespace'])
  test(`messages and descriptors reach a service manager at ${kind}`, (t) => {
    const directory = mkdtempSync('/tmp/nymph-');
    const path = join(directory, 'notify');
    const abstract = kind !== 'a path';
    const { fd, next } = receiver(abstract ? `\0${path}` : path);
    t.after(() => {
      closeSync(fd);
      rmSync(directory, { recursive: true });
    });
    const notify = openNotifySocket(abstract ? `@${path}` : path);
    assert.ok(notify.send('READY=1\nSTATUS=serving'));
    assert.deepEqual(next(), { text: 'READY=1\nSTATUS=serving', passed: undefined });

    const file = openSync(join(directory, 'file'), 'w');
    assert.ok(notify.send('FDSTORE=1\nFDNAME=nymph', file));
    const { text, passed } = next();
    assert.equal(text, 'FDSTORE=1\nFDNAME=nymph');
    assert.notEqual(passed, file);
    assert.equal(fstatSync(passed!).ino, fstatSync(file).ino);
    for (const one of [file, passed!]) closeSync(one);

    // Nobody takes them out: it says so instead of waiting.
    let sent = 0;
    while (sent < 10_000 && notify.send('WATCHDOG=1')) sent++;
    assert.ok(sent < 10_000);
  });

test('nobody there is no error, and a wrong address is one', () => {
  assert.equal(openNotifySocket('/tmp/nobody-listens-here').send('READY=1'), false);
  for (const wrong of ['relative', '@', `/${'x'.repeat(200)}`])
    assert.throws(() => openNotifySocket(wrong), /no address of a unix socket/);
});
