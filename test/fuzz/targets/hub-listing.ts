/** What drivers of hubs say: descriptions, requests, files. */
import { checkDescription } from '../../../src/plugins/check.ts';
import { createListing } from '../../../src/plugins/listing.ts';
import { problemError } from '../../../src/plugins/problem.ts';
import { ensure, type Target } from '../target.ts';

const FILE = { path: 'a/b.bin', size: 12, location: '/o/n/resolve/c0ffee/a/b.bin?x=1', executable: true };

export const target: Target = {
  name: 'hub-listing',
  text: true,
  places: false,
  errors: ['corrupt'],
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
    return Array.isArray(value?.steps) ? checkFiles(value.steps) : 'nothing';
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
  const { files } = JSON.parse(Buffer.from(listing.finish().bytes).toString()) as {
    files: { path: string; size: number; location: string }[];
  };
  for (const { path, size, location } of files) {
    ensure(!path.split('/').some((name) => ['', '.', '..'].includes(name)), 'a path leads elsewhere');
    ensure(Number.isSafeInteger(size) && size >= 0, 'a size is none');
    const url = new URL(`https://shelf.example/base${location.slice('shelf:'.length)}`);
    ensure(url.host === 'shelf.example' && url.pathname.startsWith('/base/'), 'a location leads away');
  }
  ensure(new Set(files.map(({ path }) => path)).size === files.length, 'a path is there twice');
  return `${Math.min(files.length, 2)} files`;
}
