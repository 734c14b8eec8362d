/** What drivers of hubs say: descriptions, requests, files; and the listings that are made of it. */
import { imageOfFiles } from '../../../src/formats/files/image.ts';
import { filesOfListing } from '../../../src/formats/files/listing.ts';
import { checkDescription } from '../../../src/plugins/check.ts';
import { createListing } from '../../../src/plugins/listing.ts';
import { problemError } from '../../../src/plugins/problem.ts';
import { ensure, type Target } from '../target.ts';

const FILE = { path: 'a/b.bin', size: 12, location: '/o/n/resolve/c0ffee/a/b.bin?x=1', executable: true };

export const target: Target = {
  name: 'hub-listing',
  text: true,
  places: false,
  errors: ['corrupt', 'not-found'],
  words: ['..', '%2e', '//', '\\', '\0', 'https://', '127.0.0.1', '{token}', '*.', '9007199254740993', '"git"', 'null'],
  limit: 4 << 10,
  seeds: () =>
    [
      {
        description: {
          scheme: 'shelf',
          endpoint: 'https://shelf.example/api',
          redirects: ['*.cdn.example'],
          tokenHeaders: [['authorization', 'Bearer {token}']],
        },
      },
      { steps: [{ revision: 'c0ffee', files: [FILE], next: { path: '/2', accept: 'text/plain' } }] },
      {
        steps: [
          { files: [{ ...FILE, digest: { tag: 'git', val: '0'.repeat(40) } }] },
          { files: [{ ...FILE, path: 'c', digest: { tag: 'sha256', val: '0'.repeat(64) } }] },
        ],
      },
      {
        schemaVersion: 1,
        revision: 'c0ffee',
        files: [
          { path: 'a/b', size: 3, mode: 0o755, digest: `git:${'0'.repeat(40)}`, location: 'hf:/a' },
          { path: 'a/c', size: 3, digest: `sha256:${'0'.repeat(64)}`, location: 'hf:/b' },
          { path: 'd', size: 0, location: 'hf:/c' },
        ],
      },
      { problem: { tag: 'not-found', val: 'it is gone' } },
    ].map((value) => Buffer.from(JSON.stringify(value))),
  run(input) {
    let value: { description?: unknown; steps?: unknown; problem?: unknown } | null;
    try {
      value = JSON.parse(Buffer.from(input).toString());
    } catch {
      return 'no JSON';
    }
    if (value?.description !== undefined) return checkReach(value.description);
    if (value?.problem !== undefined) return problemError('a driver', value.problem).code;
    return Array.isArray(value?.steps) ? checkFiles(value.steps) : checkImage(input);
  },
};

function checkReach(description: unknown): string {
  const { endpoint, redirects } = checkDescription(description);
  const { protocol, hostname, pathname } = new URL(endpoint);
  ensure(protocol === 'https:' && /[a-z]/.test(hostname), 'it reaches an address');
  ensure(
    redirects.every((host) => host.includes('.')),
    'it reaches everybody',
  );
  return pathname === '/' ? 'a host' : 'a path';
}

function checkFiles(steps: unknown[]): string {
  const listing = createListing('a driver', 'shelf');
  for (const step of steps) listing.add(step);
  const { bytes } = listing.finish();
  const { files } = JSON.parse(Buffer.from(bytes).toString()) as {
    files: { path: string; size: number; location: string }[];
  };
  ensure(filesOfListing(bytes, 'shelf://', 'listing').files.length === files.length, 'a file is lost');
  for (const { path, size, location } of files) {
    ensure(!path.split('/').some((name) => ['', '.', '..'].includes(name)), 'a path leads elsewhere');
    ensure(Number.isSafeInteger(size) && size >= 0, 'a size is none');
    const url = new URL(`https://shelf.example/base${location.slice('shelf:'.length)}`);
    ensure(url.host === 'shelf.example' && url.pathname.startsWith('/base/'), 'a location leads away');
  }
  ensure(new Set(files.map(({ path }) => path)).size === files.length, 'a path is there twice');
  return `${Math.min(files.length, 2)} files`;
}

function checkImage(input: Uint8Array): string {
  const list = filesOfListing(input, 'shelf://', 'listing');
  const bytes = list.objects.reduce((sum, { size }) => sum + size, 0);
  // Tables are made of what is claimed: that is for the limits of images, not for this.
  if (bytes > 2 ** 30) return 'too large';
  const { image } = imageOfFiles(list, 'listing');
  ensure(image.blobs.length === list.objects.length, 'a blob is lost');
  return `an image of ${Math.min(image.blobs.length, 2)}`;
}
