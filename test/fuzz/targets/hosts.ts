/** containerd's hosts.toml. */
import { parseHostsFile } from '../../../src/sources/registry/hosts-file.ts';
import { ensure, type Target } from '../target.ts';
import { TOML_WORDS } from '../words.ts';

export const target: Target = {
  name: 'hosts',
  text: true,
  seeds: () =>
    [
      `server = "https://registry.example"
[host."https://mirror.example:5000/v2"]
  capabilities = ["pull", "resolve"]
  ca = ["/etc/ca.pem", "b.pem"]
  client = [["a.cert", "a.key"], "c.pem"]
  skip_verify = true
  dial_timeout = "1.5s"
  [host."https://mirror.example:5000/v2".header]
    x-custom = ["a", "b"]
[host."http://plain.example/prefix"]
  override_path = true
`,
      'server = "docker.io"\nca = "x"\n',
      '',
    ].map((text) => Buffer.from(text)),
  errors: ['config'],
  limit: 16 << 10,
  words: [
    ...TOML_WORDS,
    'server',
    'host',
    'capabilities',
    'pull',
    'ca',
    'client',
    'skip_verify',
    'header',
    'override_path',
    'dial_timeout',
    '"5s"',
    '"https://a"',
    '"ftp://a"',
    '"http://a:b@c"',
    '[host]',
    '"//"',
  ],
  run(input) {
    const { mirrors, server } = parseHostsFile(
      Buffer.from(input).toString('utf8'),
      'hosts.toml',
      new URL('https://registry.example/v2'),
    );
    for (const { url, headers, connectTimeout = 0 } of [...mirrors, server]) {
      ensure(/^https?:$/.test(url.protocol) && url.username === '' && url.search === '', `${url} is no address`);
      ensure(connectTimeout >= 0 && Number.isFinite(connectTimeout), `a timeout of ${connectTimeout}`);
      ensure(Object.getPrototypeOf(headers) === Object.prototype, 'headers of another kind');
      for (const value of Object.values(headers).flat()) ensure(!/[\r\n\0]/.test(value), 'a header that splits');
    }
    return `${Math.min(mirrors.length, 3)}`;
  },
};
