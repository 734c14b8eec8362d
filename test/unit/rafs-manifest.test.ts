import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrapLayer, type Layer } from '../../src/formats/rafs/manifest.ts';

const layer = (mediaType: string, annotations: Record<string, string> = {}): Layer => ({
  mediaType,
  digest: `sha256:${'0'.repeat(64)}`,
  size: 1,
  annotations: Object.fromEntries(
    Object.entries(annotations).map(([key, value]) => [
      key.includes('.') ? key : `containerd.io/snapshot/${key}`,
      value,
    ]),
  ),
});
const TAR = 'application/vnd.oci.image.layer.v1.tar+gzip';
const BLOB = 'application/vnd.oci.image.layer.nydus.blob.v1';
const bootstrap = (version: string) => layer(TAR, { 'nydus-bootstrap': 'true', 'nydus-fs-version': version });

test('the bootstrap layer is found: also of images that refer to gzip layers, and of those with encrypted blobs', () => {
  const reference = layer(BLOB, { 'nydus-blob': 'true', 'nydus-ref': `sha256:${'1'.repeat(64)}` });
  const encrypted = layer(BLOB, { 'nydus-blob': 'true', 'nydus-encrypted-blob': 'true' });
  for (const blob of [reference, encrypted]) {
    const last = bootstrap('6');
    assert.equal(bootstrapLayer([blob, last]), last);
  }
  const [old, last] = [bootstrap('5'), bootstrap('6')];
  assert.equal(bootstrapLayer([old, last]), last, 'the last of several');
});

test('what is not served is refused by its name', () => {
  const cases: [RegExp, Layer[]][] = [
    [/ordinary OCI image/, [layer(TAR)]],
    [/Nydus v3/, [bootstrap('7')]],
    [/format version "8"/, [bootstrap('8')]],
    [/ocicrypt/, [layer(BLOB), layer(`${TAR}+encrypted`, { 'nydus-bootstrap': 'true', 'nydus-fs-version': '6' })]],
    [/ocicrypt/, [layer(BLOB), layer(TAR, { 'org.opencontainers.image.enc.keys.jwe': 'e30=' })]],
  ];
  for (const [message, layers] of cases)
    assert.throws(() => bootstrapLayer(layers), { name: 'NymphError', code: 'unsupported', message });
});
