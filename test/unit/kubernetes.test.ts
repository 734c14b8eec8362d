/** The manifests and the chart: what they promise, and that the tools accept them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ajv } from 'ajv';
import { parse, parseAllDocuments } from 'yaml';
import { PROJECT } from '../fixtures.ts';

const KUBERNETES = join(PROJECT, 'deploy', 'kubernetes');
const CHART = join(PROJECT, 'deploy', 'helm', 'nymph');
const missing = (program: string, ...args: string[]) =>
  spawnSync(program, args).status === 0 ? false : `not installed: ${program}`;
const noHelm = missing('helm', 'version');
const noKubectl = missing('kubectl', 'kustomize', '--help');

// biome-ignore lint/suspicious/noExplicitAny: objects of Kubernetes, of any kind
type Manifest = any;

const read = (text: string): Manifest[] => parseAllDocuments(text).flatMap((document) => document.toJS() ?? []);

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** What holds of the pods, whoever wrote the manifest. */
function checkDaemonSet(objects: Manifest[], image: RegExp): void {
  const kinds = objects.map(({ kind }) => kind);
  for (const forbidden of ['ClusterRole', 'Role', 'ClusterRoleBinding', 'RoleBinding'])
    assert.ok(!kinds.includes(forbidden), `it needs no ${forbidden}`);
  const set = objects.find(({ kind }) => kind === 'DaemonSet');
  const { spec, metadata } = set.spec.template;
  assert.deepEqual(set.spec.selector.matchLabels, metadata.labels);
  assert.equal(spec.automountServiceAccountToken, false);
  assert.equal(spec.priorityClassName, 'system-node-critical');
  assert.equal(spec.hostPID, true);
  assert.deepEqual(spec.tolerations, [{ operator: 'Exists' }]);
  const [install] = spec.initContainers;
  const [keep] = spec.containers;
  assert.equal(install.securityContext.privileged, true);
  assert.notEqual(keep.securityContext.privileged, true);
  assert.deepEqual(keep.securityContext.capabilities, { drop: ['ALL'] });
  for (const container of [install, keep]) {
    assert.match(container.image, image);
    const volumes = spec.volumes.map(({ name }: { name: string }) => name);
    for (const { name } of container.volumeMounts) assert.ok(volumes.includes(name), name);
    assert.ok(container.resources.limits.memory);
  }
  const map = spec.volumes.find(({ configMap }: Manifest) => configMap).configMap.name;
  assert.ok(
    objects.some(({ kind, metadata: { name } }) => kind === 'ConfigMap' && name === map) || map === 'nymph-config',
  );
}

test('the plain manifests', () => {
  const files = readdirSync(KUBERNETES).filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml');
  const { resources } = parse(readFileSync(join(KUBERNETES, 'kustomization.yaml'), 'utf8'));
  assert.deepEqual([...resources].sort(), files.sort());
  checkDaemonSet(
    files.flatMap((name) => read(readFileSync(join(KUBERNETES, name), 'utf8'))),
    /^registry\.example\/nymph:\d/,
  );
});

test('kustomize makes one document of them', { skip: noKubectl }, () => {
  const objects = read(run('kubectl', 'kustomize', KUBERNETES));
  assert.deepEqual(objects.map(({ kind }) => kind).sort(), ['ConfigMap', 'DaemonSet', 'Namespace', 'ServiceAccount']);
  checkDaemonSet(objects, /^registry\.example\/nymph:\d/);
});

test('the chart’s version is nymph’s, its values are as its schema says, and every one is explained', () => {
  const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
  const chart = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8'));
  assert.deepEqual([chart.version, chart.appVersion], [version, version]);
  assert.match(readFileSync(join(KUBERNETES, 'daemonset.yaml'), 'utf8'), new RegExp(`/nymph:${version}\n`));
  const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8'));
  const values: Manifest = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8'));
  const validate = new Ajv({ strict: false }).compile<Manifest>(schema);
  assert.ok(validate(values), JSON.stringify(validate.errors));
  assert.deepEqual(
    Object.keys(schema.properties)
      .filter((name) => name !== 'global')
      .sort(),
    Object.keys(values).sort(),
  );
  for (const wrong of [
    { action: 'maybe' },
    { containerd: true },
    { maxUnavailable: 0 },
    { unknown: 1 },
    { pullSecrets: ['A b'] },
  ])
    assert.equal(validate({ ...values, ...wrong }), false, JSON.stringify(wrong));
  const guide = readFileSync(join(PROJECT, 'docs', 'kubernetes.md'), 'utf8');
  for (const name of Object.keys(values))
    assert.ok(guide.includes(`\`${name}`), `docs/kubernetes.md says nothing of ${name}`);
});

test('helm accepts the chart, and what it makes keeps the promises', { skip: noHelm }, () => {
  run('helm', 'lint', '--strict', CHART);
  const set = ['--set', 'pullSecrets={team-a,team.b}', '--set', 'imagePullSecrets[0].name=own', '--set', 'image.tag=9'];
  const objects = read(run('helm', 'template', 'release', CHART, '--namespace', 'nymph', ...set));
  checkDaemonSet(objects, /^registry\.example\/nymph:9$/);
  const { spec } = objects.find(({ kind }) => kind === 'DaemonSet').spec.template;
  assert.deepEqual(spec.imagePullSecrets, [{ name: 'own' }]);
  const paths = spec.containers[0].volumeMounts.map(({ mountPath }: Manifest) => mountPath);
  assert.ok(paths.includes('/etc/nymph-secrets/team-a') && paths.includes('/etc/nymph-secrets/team.b'));
  const wrong = spawnSync('helm', ['template', 'release', CHART, '--set', 'containerd=perhaps'], { encoding: 'utf8' });
  assert.notEqual(wrong.status, 0);
  assert.match(wrong.stderr, /containerd/);
});
