/** containerd's configuration, and what is written into it. */
import { isDeepStrictEqual } from 'node:util';
import { parse } from 'smol-toml';
import { criSettings, pluginsAt, unpackSnapshotters } from '../../../src/containerd/config.ts';
import { planChanges } from '../../../src/containerd/plan.ts';
import { changeToml, restoreToml } from '../../../src/containerd/toml-edit.ts';
import { ensure, type Target } from '../target.ts';
import { TOML_WORDS } from '../words.ts';

type Table = Record<string, unknown>;
const version = (major: number, minor: number) => ({ text: `${major}.${minor}.0`, major, minor });

export const target: Target = {
  name: 'containerd-config',
  text: true,
  seeds: () =>
    [
      '',
      'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "x" # y\n  [plugins."io.containerd.grpc.v1.cri".containerd]\n    snapshotter = "overlayfs"\n    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n      type = "x"\n',
      'version = 3\nimports = ["/etc/a.toml", # ]\n]\n[proxy_plugins]\n[proxy_plugins.nydus]\ntype = "snapshot"\naddress = "/x"\n[[plugins."io.containerd.transfer.v1.local".unpack_config]]\nplatform = "linux"\nsnapshotter = "overlayfs"\n',
      'version = 3\n[plugins."io.containerd.transfer.v1.local"]\nunpack_config = [ { platform = "linux", snapshotter = "overlayfs" } ]\ntext = """\n[no]\n"""\n',
      'disabled_plugins = ["io.containerd.grpc.v1.cri"]\nversion = 2\n',
    ].map((text) => Buffer.from(text)),
  errors: ['config', 'unsupported'],
  limit: 16 << 10,
  words: [
    ...TOML_WORDS,
    'version = 2\n',
    'version = 3\n',
    '[plugins]\n',
    'plugins',
    '"io.containerd.grpc.v1.cri"',
    '"io.containerd.cri.v1.images"',
    'containerd',
    'proxy_plugins',
    'nymph',
    'unpack_config',
    'snapshotter',
    '# nymph: begin\n',
    '# nymph: end\n',
    '# was:',
    '\r\n',
  ],
  run(input) {
    const text = Buffer.from(input).toString('utf8');
    let document: Table;
    try {
      document = parse(text) as Table;
    } catch {
      // containerd refuses such a file, too.
      return 'no TOML';
    }
    for (const containerd of [version(1, 7), version(2, 1)]) {
      criSettings(document, containerd.major);
      unpackSnapshotters(document);
      pluginsAt(document, '/x');
    }
    const changes = planChanges(document, {
      containerd: version(2, 1),
      nerdctl: version(2, 0),
      address: '/run/n.sock',
      root: '/var/lib/n',
      cri: true,
    });
    const marked = text.includes('# nymph:');
    const changed = changeToml(text, changes);
    ensure(
      isDeepStrictEqual(
        planChanges(parse(changed) as Table, {
          containerd: version(2, 1),
          nerdctl: version(2, 0),
          address: '/run/n.sock',
          root: '/var/lib/n',
          cri: true,
        }),
        [],
      ),
      'a second time changes more',
    );
    // A line without an end gets one.
    if (!marked) ensure(restoreToml(changed).trimEnd() === text.trimEnd(), 'it does not come back');
    return `${changes.length} changes`;
  },
};
