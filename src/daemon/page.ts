import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { PageAnswer } from './control-server.ts';

/** The page that draws what goes on: one file, plain JavaScript. It reads the control API as any other client does. */
const FILE = new URL('../../web/index.html', import.meta.url);

let page: Promise<PageAnswer> | undefined;

/** Read when it is first wanted. */
export function webPage(): Promise<PageAnswer> {
  page ??= readPage();
  page.catch(() => (page = undefined));
  return page;
}

async function readPage(): Promise<PageAnswer> {
  const body = await readFile(FILE);
  const text = body.toString('utf8');
  const policy = [
    "default-src 'none'",
    `script-src ${hashesOf(text, 'script')}`,
    `style-src ${hashesOf(text, 'style')}`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return {
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': policy.join('; '),
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
    },
    body,
  };
}

/** Nothing but what stands in the file itself is run, by its digest (CSP level 2, `hash-source`). */
function hashesOf(text: string, element: 'script' | 'style'): string {
  const found = text.matchAll(new RegExp(`<${element}>(.*?)</${element}>`, 'gs'));
  return Array.from(found, ([, content]) => `'sha256-${createHash('sha256').update(content).digest('base64')}'`).join(
    ' ',
  );
}
