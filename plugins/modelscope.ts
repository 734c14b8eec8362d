/**
 * `modelscope://[models/|datasets/]OWNER/NAME[@REVISION][/FOLDER]`: ModelScope. A revision with a slash is written with
 * `%2F`.
 *
 * Source: modelscope 1.25, `hub/api.py` and `hub/file_download.py`; modelscope_hub 0.0.7, `_legacy_api.py`.
 */
import type { Answer, Description, File, Problem, Request, Step } from './hub.ts';

/** An entry of `Data.Files`. */
interface Entry {
  Type: string;
  Path: string;
  Size: number;
  Sha256?: string;
  /** The commit that changed it last. */
  Revision?: string;
  /** Of git, decimal: `33188`. */
  Mode?: string;
}

const PAGE_SIZE = 200;
const EXECUTABLE = 0o111;

let type = 'models';
let id = '';
let folder = '';
let revision = 'master';
let page = 1;
/** Entries that have come, directories too. */
const seen = new Set<string>();

export function describe(): Description {
  return {
    scheme: 'modelscope',
    endpoint: 'https://modelscope.cn',
    // LFS files: cdn-lfs-cn-1.modelscope.cn and others; inside of Alibaba's cloud its object storage itself.
    redirects: ['modelscope.cn', '*.modelscope.cn', 'modelscope.ai', '*.modelscope.ai', '*.aliyuncs.com'],
    // Older parts of the API know the cookie alone.
    tokenHeaders: [
      ['authorization', 'Bearer {token}'],
      ['cookie', 'm_session_id={token}'],
    ],
  };
}

export function start(reference: string): Request {
  const parts = reference.replace(/\/+$/, '').split('/');
  if (parts[0] === 'models' || parts[0] === 'datasets') type = parts.shift()!;
  const [owner = '', rest = '', ...path] = parts;
  const [name, named = 'master', ...more] = rest.split('@');
  if (!isName(owner) || !isName(name) || named === '' || more.length > 0)
    throw problem('reference', 'write modelscope://[datasets/]OWNER/NAME[@REVISION][/FOLDER]');
  id = `${owner}/${name}`;
  folder = path.join('/');
  revision = decode(named);
  return listing();
}

export function next({ body }: Answer): Step {
  const answer = parse(body);
  if (answer.Code !== 200) throw refusal(answer);
  const { Files: entries, LatestCommitter: latest } = answer.Data ?? {};
  if (!Array.isArray(entries)) throw problem('answer', 'the listing has no files');
  // Models come in one answer, which a second page repeats; data sets may have millions of files.
  const fresh = entries.filter(({ Path: path }) => !seen.has(path));
  for (const { Path: path } of fresh) seen.add(path);
  const total = answer.TotalCount ?? answer.Data?.TotalCount ?? 0;
  const more = fresh.length > 0 && (total > 0 ? seen.size < total : type === 'datasets' && entries.length >= PAGE_SIZE);
  const files = fresh.filter((entry) => entry.Type !== 'tree').map(fileOf);
  const step: Step = { revision: isCommit(latest?.Id) ? latest.Id : revision, files };
  if (more) {
    page++;
    step.next = listing();
  }
  return step;
}

function listing(): Request {
  const list = type === 'datasets' ? 'repo/tree' : 'repo/files';
  const root = folder === '' ? '' : `&Root=${encodeURIComponent(folder)}`;
  const pages = type === 'datasets' || page > 1 ? `&PageNumber=${page}&PageSize=${PAGE_SIZE}` : '';
  return {
    path: `/api/v1/${type}/${id}/${list}?Revision=${encodeURIComponent(revision)}&Recursive=True${root}${pages}`,
  };
}

/** A file is asked for at the commit that changed it last: branches move on. */
function fileOf({ Path: path, Size: size, Sha256: sha256, Revision: commit, Mode: mode }: Entry): File {
  const pinned = isCommit(commit) ? commit : revision;
  const hasDigest = typeof sha256 === 'string' && sha256 !== '';
  if (!isCommit(pinned) && !hasDigest)
    throw problem('answer', `${path} has neither a commit nor a digest: it could change while it is read`);
  const file: File = {
    path,
    size,
    location: `/api/v1/${type}/${id}/repo?Revision=${encodeURIComponent(pinned)}&FilePath=${encodeURIComponent(path)}`,
    executable: (Number(mode ?? 0) & EXECUTABLE) !== 0,
  };
  if (hasDigest) file.digest = { tag: 'sha256', val: sha256.toLowerCase() };
  return file;
}

interface Listing {
  Code?: number;
  Message?: string;
  TotalCount?: number;
  Data?: { Files?: Entry[]; TotalCount?: number; LatestCommitter?: { Id?: string } };
}

/** What went wrong, in an answer of status 200. */
function refusal({ Code: code, Message: message }: Listing): Problem {
  const said = `${message ?? 'no reason is given'} (code ${code})`;
  if (code === 401 || code === 403 || /not authori|login|permission/i.test(said)) return problem('denied', said);
  return problem(code === 404 || /not (found|exist)|exist/i.test(said) ? 'not-found' : 'answer', said);
}

function isCommit(text: unknown): text is string {
  return typeof text === 'string' && /^[0-9a-f]{40}$/.test(text);
}

function isName(name: string): boolean {
  return /^\w[\w.-]{0,127}$/.test(name) && !name.includes('..');
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw problem('reference', 'the revision has a % that means nothing: write %25');
  }
}

function parse(body: string): Listing {
  try {
    const value = JSON.parse(body);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Told below.
  }
  throw problem('answer', 'the answer is not JSON');
}

function problem(tag: Problem['tag'], val: string): Problem {
  return { tag, val };
}
