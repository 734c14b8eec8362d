/** Pull requests of the CRI, as they pass by. */
import { messageCollector } from '../../../src/cri/message.ts';
import { pullRequestReader } from '../../../src/cri/pull-request.ts';
import { ensure, type Target } from '../target.ts';

const read = pullRequestReader();
const field = (number: number, content: string | Buffer) => {
  const bytes = Buffer.from(content as Buffer);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
};

function message(body: Buffer): Buffer {
  const head = Buffer.alloc(6);
  head[0] = 9;
  head.writeUInt32BE(body.length, 2);
  return Buffer.concat([head, body]);
}

export const target: Target = {
  name: 'cri',
  seeds: () => {
    const image = field(1, field(1, 'registry.example/app:1'));
    const auth = field(
      2,
      Buffer.concat([field(1, 'me'), field(2, 'secret'), field(4, 'https://registry.example/v1/')]),
    );
    const token = field(2, Buffer.concat([field(5, 'identity'), field(6, 'registry')]));
    return [
      message(Buffer.concat([image, auth])),
      message(Buffer.concat([image, token])),
      message(image),
      message(Buffer.concat([image, auth, Buffer.from([0x7a, 1, 0])])),
    ];
  },
  errors: [],
  limit: 4 << 10,
  run(input) {
    const size = 1 + (input[0] ?? 0);
    let calls = 0;
    let way = 'nothing yet';
    const collect = messageCollector((whole, problem) => {
      ensure(++calls === 1, 'told twice');
      way = problem ?? readLogin(whole!);
    });
    for (let at = 1; at < input.length; at += size) collect(Buffer.from(input.subarray(at, at + size)));
    return way;
  },
};

/** The proxy passes over what cannot be read; containerd says what is wrong with it. */
function readLogin(whole: Buffer): string {
  let login: ReturnType<typeof read>;
  try {
    login = read(whole);
  } catch {
    return 'unreadable';
  }
  if (login === undefined) return 'no login';
  const { host, repository, credential } = login;
  ensure(
    [host, repository, ...Object.values(credential)].every((text) => typeof text === 'string' && text !== ''),
    'a login that is no text',
  );
  return credential.kind;
}
