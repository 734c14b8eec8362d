/**
 * `hf://[models/|datasets/|spaces/]OWNER/NAME[@REVISION][/FOLDER]`: the Hugging Face Hub. A revision with a slash is
 * written with `%2F`. Without OWNER it is one of the first repositories: `hf://gpt2`.
 *
 * Source: huggingface_hub 1.x, `hf_api.py` (`repo_info`, `list_repo_tree`) and `file_download.py` (`hf_hub_url`).
 */
import type { Answer, Description, File, Problem, Request, Step } from './hub.ts';

/** An entry of `/api/{type}s/{id}/tree/{revision}`. */
interface Entry {
  type: string;
  path: string;
  size: number;
  oid: string;
  lfs?: { oid: string; size: number };
}

const TYPES = ['models', 'datasets', 'spaces'];
const PAGE = '?recursive=true&expand=false';

let type = 'models';
let id = '';
let folder = '';
let commit = '';

export function describe(): Description {
  return {
    scheme: 'hf',
    endpoint: 'https://huggingface.co',
    // Files in git, LFS and Xet: cdn-lfs*.huggingface.co, cdn-lfs*.hf.co, cas-bridge.xethub.hf.co, us.aws.cdn.hf.co …
    redirects: ['huggingface.co', '*.huggingface.co', 'hf.co', '*.hf.co'],
    tokenHeaders: [['authorization', 'Bearer {token}']],
  };
}

export function start(reference: string): Request {
  const parts = reference.replace(/\/+$/, '').split('/');
  if (TYPES.includes(parts[0])) type = parts.shift()!;
  // `@` ends the name: before it there are one or two parts.
  const named = parts.findIndex((part) => part.includes('@'));
  const length = named === 0 || parts.length === 1 ? 1 : 2;
  const [last, revision = 'main', ...more] = parts[length - 1].split('@');
  const names = [...parts.slice(0, length - 1), last];
  if (named >= length || more.length > 0 || !names.every(isName) || revision === '')
    throw problem('reference', 'write hf://[datasets/|spaces/]OWNER/NAME[@REVISION][/FOLDER]');
  id = names.join('/');
  folder = parts.slice(length).join('/');
  return { path: `/api/${type}/${id}/revision/${encodeURIComponent(decode(revision))}` };
}

export function next({ headers, body }: Answer): Step {
  const answer = parse(body);
  if (commit === '') {
    const { sha, id: name } = answer as { sha?: unknown; id?: unknown };
    if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha)) throw problem('answer', 'the hub names no commit');
    commit = sha;
    // One that was renamed is asked for by its new name from now on.
    if (typeof name === 'string' && name.split('/').every(isName)) id = name;
    return { revision: commit, files: [], next: { path: tree() + PAGE } };
  }
  if (!Array.isArray(answer)) throw problem('answer', 'the listing is no list');
  const files = (answer as Entry[]).filter((entry) => entry.type === 'file').map(fileOf);
  const more = nextPage(headers);
  return more === undefined ? { files } : { files, next: { path: tree() + more } };
}

function tree(): string {
  return `/api/${type}/${id}/tree/${commit}${folder === '' ? '' : `/${encodePath(folder)}`}`;
}

/** LFS and Xet files have the SHA-256 of their content, others are git blobs. */
function fileOf({ path, size, oid, lfs }: Entry): File {
  const place = type === 'models' ? id : `${type}/${id}`;
  return {
    path,
    size: lfs === undefined ? size : lfs.size,
    digest: lfs === undefined ? { tag: 'git', val: oid } : { tag: 'sha256', val: lfs.oid },
    location: `/${place}/resolve/${commit}/${encodePath(path)}`,
    executable: false,
  };
}

/** The query of `Link: <…>; rel="next"`: its host may be another one's than that which was asked. */
function nextPage(headers: Answer['headers']): string | undefined {
  const link = headers.find(([name]) => name === 'link')?.[1] ?? '';
  return /<[^>?]*(\?[^>]*)>\s*;[^,]*\brel="?next"?/.exec(link)?.[1];
}

function isName(name: string): boolean {
  return /^[\w][\w.-]{0,95}$/.test(name) && !name.includes('..');
}

function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw problem('reference', 'the revision has a % that means nothing: write %25');
  }
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw problem('answer', 'the answer is not JSON');
  }
}

function problem(tag: Problem['tag'], val: string): Problem {
  return { tag, val };
}
