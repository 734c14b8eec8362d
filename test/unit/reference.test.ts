import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatPlatform,
  machinePlatform,
  type Platform,
  parsePlatform,
  selectManifest,
} from '../../src/sources/platform.ts';
import { apiHost, formatReference, parseReference } from '../../src/sources/reference.ts';
import type { Descriptor } from '../../src/sources/source.ts';
import { known } from '../source-suite.ts';

const HEX = '0123456789abcdef'.repeat(4);

test('references to registries, as people write them', () => {
  const cases: [string, string][] = [
    ['app', 'docker.io/library/app:latest'],
    ['app:v1', 'docker.io/library/app:v1'],
    ['team/app', 'docker.io/team/app:latest'],
    ['docker.io/app', 'docker.io/library/app:latest'],
    ['index.docker.io/library/app', 'docker.io/library/app:latest'],
    ['registry-1.docker.io/app', 'docker.io/library/app:latest'],
    [`app@sha256:${HEX}`, `docker.io/library/app@sha256:${HEX}`],
    [`app:v1@sha256:${HEX}`, `docker.io/library/app:v1@sha256:${HEX}`],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000/app:1.0', 'localhost:5000/app:1.0'],
    ['registry.example/a/b/c:x', 'registry.example/a/b/c:x'],
    ['Registry.Example:5000/a', 'registry.example:5000/a:latest'],
    ['[::1]:5000/a', '[::1]:5000/a:latest'],
    ['10.0.0.1:5000/a__b/c--d/e.f:T_1', '10.0.0.1:5000/a__b/c--d/e.f:T_1'],
    [`r.io/${'a'.repeat(64)}`, `r.io/${'a'.repeat(64)}:latest`],
  ];
  for (const [text, canonical] of cases) {
    const reference = parseReference(text);
    assert.equal(formatReference(reference), canonical, text);
    assert.deepEqual(parseReference(canonical), reference, text);
  }
});

test('references to layouts and folders', () => {
  const cases: [string, object, string][] = [
    ['oci:/a/b', { kind: 'layout', path: '/a/b' }, 'oci:/a/b'],
    ['oci:b:v1', { kind: 'layout', path: '/home/b', tag: 'v1' }, 'oci:/home/b:v1'],
    ['oci:./b/../c/:v1', { kind: 'layout', path: '/home/c', tag: 'v1' }, 'oci:/home/c:v1'],
    ['oci:b:r.io/x:1', { kind: 'layout', path: '/home/b', tag: 'r.io/x:1' }, 'oci:/home/b:r.io/x:1'],
    [
      `oci:/b:v@sha256:${HEX}`,
      { kind: 'layout', path: '/b', tag: 'v', digest: `sha256:${HEX}` },
      `oci:/b:v@sha256:${HEX}`,
    ],
    [`oci:/b@sha256:${HEX}`, { kind: 'layout', path: '/b', digest: `sha256:${HEX}` }, `oci:/b@sha256:${HEX}`],
    ['rafs:/x y', { kind: 'folder', path: '/x y' }, 'rafs:/x y'],
    ['rafs:x:y', { kind: 'folder', path: '/home/x:y' }, 'rafs:/home/x:y'],
  ];
  for (const [text, parsed, canonical] of cases) {
    const reference = parseReference(text, '/home');
    assert.deepEqual(reference, parsed, text);
    assert.equal(formatReference(reference), canonical);
    assert.deepEqual(parseReference(canonical, '/elsewhere'), reference);
  }
});

test('wrong references say why and what to write', () => {
  const cases: [string, RegExp, RegExp?][] = [
    ['', /name is empty/],
    ['App', /`App`/, /lower case/],
    ['a//b', /empty part/],
    ['a/-b', /`-b`/],
    ['a:', /is not a tag/],
    ['a:b c', /spaces/],
    [`a:${'x'.repeat(129)}`, /not a tag/],
    ['a@', /digest behind/],
    ['a@sha256:123', /not a digest/, /64 digits/],
    [`a@sha512:${HEX}${HEX}`, /not a digest/],
    [HEX, /digest without a name/],
    ['https://r.io/a', /scheme/, /https:\/\//],
    ['docker://r.io/a', /scheme/],
    ['./a', /path/, /oci:/],
    ['/a/b', /path/, /rafs:/],
    ['r.io:0/a', /host/],
    ['r.io:65536/a', /host/],
    ['r.io:x/a', /host/],
    ['registry.5/a', /host/],
    ['-r.io/a', /host/],
    ['[::g]/a', /host/],
    ['user@r.io/a', /host/],
    [`r.io/${'a/'.repeat(200)}a`, /255/],
    ['oci:', /path is empty/],
    ['oci:/a:', /tag/],
    ['rafs:', /path is empty/],
    ['a\0b', /NUL/],
    ['a'.repeat(10_000), /too long/],
  ];
  for (const [text, why, hint] of cases)
    assert.throws(
      () => parseReference(text),
      known({ code: 'usage', message: why, hint: hint ?? /./ }),
      JSON.stringify(text),
    );
});

test('a host that only its capital letters tell from a name keeps them', () => {
  const full = formatReference(parseReference('Registry/app:1'));
  assert.equal(full, 'Registry/app:1');
  assert.equal(formatReference(parseReference(full)), full);
  assert.equal(formatReference(parseReference('Registry.Example/app:1')), 'registry.example/app:1');
});

test("Docker Hub's API is elsewhere", () => {
  assert.equal(apiHost('docker.io'), 'registry-1.docker.io');
  assert.equal(apiHost('r.io:5000'), 'r.io:5000');
});

test('platforms are normalised', () => {
  const cases: [string, string][] = [
    ['linux/amd64', 'linux/amd64'],
    ['Linux/x86_64', 'linux/amd64'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm64/8', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/armhf', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/i386', 'linux/386'],
  ];
  for (const [text, canonical] of cases) assert.equal(formatPlatform(parsePlatform(text)), canonical);
  assert.equal(formatPlatform(parsePlatform('linux/constructor')), 'linux/constructor');
  for (const text of ['', 'linux', 'linux/', '/amd64', 'linux/a/b/c', 'linux/amd 64'])
    assert.throws(() => parsePlatform(text), known({ code: 'usage', hint: /os\/architecture/ }));
  assert.deepEqual(machinePlatform('x64'), { os: 'linux', architecture: 'amd64' });
  assert.deepEqual(machinePlatform('arm64'), { os: 'linux', architecture: 'arm64' });
  assert.deepEqual(machinePlatform('arm'), { os: 'linux', architecture: 'arm', variant: 'v7' });
  assert.deepEqual(machinePlatform('ppc64'), { os: 'linux', architecture: 'ppc64le' });
});

const entry = (name: string, platform: string | undefined, extra: object = {}): Descriptor => {
  const [os, architecture, variant] = platform?.split('/') ?? [];
  return {
    mediaType: name,
    digest: `sha256:${HEX}`,
    size: 1,
    ...(platform ? { platform: { os, architecture, ...(variant ? { variant } : {}), ...extra } } : extra),
  };
};
const NYDUS = { 'os.features': ['nydus.remoteimage.v1'] };
const AMD64: Platform = parsePlatform('linux/amd64');
const pick = (platform: Platform, ...entries: Descriptor[]) => selectManifest(entries, platform).mediaType;

test('the manifest for a platform', () => {
  assert.equal(pick(AMD64, entry('arm', 'linux/arm64'), entry('amd', 'linux/amd64')), 'amd');
  assert.equal(pick(parsePlatform('linux/arm64'), entry('arm', 'linux/arm64/v8')), 'arm');
  assert.equal(pick(AMD64, entry('v3', 'linux/amd64/v3'), entry('v1', 'linux/amd64/v1')), 'v1');
  assert.equal(pick(parsePlatform('linux/amd64/v3'), entry('v1', 'linux/amd64'), entry('v3', 'linux/amd64/v3')), 'v3');
  assert.equal(pick(parsePlatform('linux/arm/v7'), entry('v5', 'linux/arm/v5'), entry('v6', 'linux/arm/v6')), 'v6');
  assert.equal(pick(AMD64, entry('attestation', 'unknown/unknown'), entry('amd', 'linux/amd64')), 'amd');
  assert.equal(pick(AMD64, entry('lone', undefined)), 'lone');
});

test('the Nydus manifest is taken where there is a plain one too, in any order', () => {
  const plain = entry('plain', 'linux/amd64');
  const nydus = entry('nydus', 'linux/amd64', NYDUS);
  const typed = { ...entry('typed', 'linux/amd64'), artifactType: 'application/vnd.nydus.image.manifest.v1+json' };
  assert.equal(pick(AMD64, plain, nydus), 'nydus');
  assert.equal(pick(AMD64, nydus, plain), 'nydus');
  assert.equal(pick(AMD64, plain, typed), 'typed');
  assert.equal(pick(AMD64, plain, entry('arm', 'linux/arm64', NYDUS)), 'plain');
});

test('a platform that is not there: what there is', () => {
  assert.throws(
    () => pick(AMD64, entry('a', 'linux/arm64'), entry('b', 'linux/arm/v6'), entry('c', 'unknown/unknown')),
    known({ code: 'not-found', message: /linux\/amd64/, hint: /It has linux\/arm64, linux\/arm\/v6:/ }),
  );
  assert.throws(() => pick(parsePlatform('linux/arm/v5'), entry('v6', 'linux/arm/v6')), known({ code: 'not-found' }));
  assert.throws(() => pick(AMD64), known({ code: 'not-found' }));
  assert.throws(() => pick(AMD64, entry('a', undefined), entry('b', undefined)), known({ code: 'not-found' }));
});
