import type { IncomingMessage, ServerResponse } from 'node:http';
import { gitId, type HubFile, pointerOf, sha256 } from './files.ts';
import { type HubOptions, sendJson, startHub, type TestHub } from './server.ts';
import { sendRange } from './storage.ts';

/**
 * Hugging Face's hub, as much of it as lists and reads repositories. Recorded shapes: huggingface_hub, `hf_api.py`,
 * `file_download.py` and `utils/_http.py`.
 */
export function startHuggingFace(options: HubOptions): Promise<TestHub> {
  return startHub(options, (hub, { token, page = 1000 }, request, response) => {
    const url = new URL(request.url ?? '/', hub.url);
    const parts = url.pathname.slice(1).split('/').map(decodeURIComponent);
    if (parts[0] === 'api' && parts[1] === 'resolve-cache') {
      const [, , type, owner, name, commit, ...path] = parts;
      const file = find(hub, `${type}/${owner}/${name}`, commit, path.join('/'));
      if (file === undefined) return undefined;
      sendRange(request, response, file.bytes, { etag: `"${gitId(file.bytes)}"`, 'x-repo-commit': commit });
      return true;
    }
    const isApi = parts[0] === 'api';
    if (isApi) parts.shift();
    const type = ['models', 'datasets', 'spaces'].includes(parts[0]) ? parts.shift()! : 'models';
    const id = parts.splice(0, 2).join('/');
    const [verb, revision, ...path] = parts;
    const repository = hub.repositories[`${type}/${id}`];
    const isKnown = token !== undefined && request.headers.authorization === `Bearer ${token}`;
    // Who may not see a repository is told the same as of one that is not there.
    if (repository === undefined || (repository.private && !isKnown))
      return isKnown
        ? refuse(response, 404, 'RepoNotFound', 'Repository not found')
        : refuse(response, 401, 'RepoNotFound', 'Invalid username or password.');
    const commit = repository.branches[revision] ?? revision;
    const files = repository.commits[commit];
    if (files === undefined) return refuse(response, 404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
    if (isApi && verb === 'revision')
      return sendJson(response, 200, {
        _id: '6510',
        id,
        private: repository.private ?? false,
        gated: repository.gated ?? false,
        sha: commit,
        siblings: files.map((file) => ({ rfilename: file.path })),
      });
    if (isApi && verb === 'tree') return sendTree(url, files, path.join('/'), page, response);
    if (verb !== 'resolve') return undefined;
    if (repository.gated)
      return refuse(response, 403, 'GatedRepo', `Access to model ${id} is restricted: visit the page and accept.`);
    const file = files.find((candidate) => candidate.path === path.join('/'));
    if (file === undefined) return refuse(response, 404, 'EntryNotFound', 'Entry not found');
    return sendFile(hub, `${type}/${id}`, commit, file, response);
  });
}

function find(hub: TestHub, repository: string, commit: string, path: string): HubFile | undefined {
  return hub.repositories[repository]?.commits[commit]?.find((file) => file.path === path);
}

function refuse(response: ServerResponse, status: number, code: string, message: string): true {
  return sendJson(
    response,
    status,
    { error: message },
    { 'x-error-code': code, 'x-error-message': message, ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}) },
  );
}

function sendTree(url: URL, files: HubFile[], folder: string, page: number, response: ServerResponse): true {
  const inside = files.filter((file) => folder === '' || file.path.startsWith(`${folder}/`));
  const directories = new Set(inside.flatMap(({ path }) => path.split('/').slice(0, -1).join('/') || []));
  const entries = [
    ...Array.from(directories, (path) => ({ type: 'directory', oid: gitId(Buffer.from(path)), size: 0, path })),
    ...inside.map(entryOf),
  ];
  const from = Number(Buffer.from(url.searchParams.get('cursor') ?? '', 'base64url').toString() || 0);
  const next = from + page;
  url.searchParams.set('cursor', Buffer.from(String(next)).toString('base64url'));
  // As behind a mirror: the address is that of the hub itself.
  const address = `https://huggingface.co${url.pathname}${url.search}`;
  const headers = next < entries.length ? { link: `<${address}>; rel="next"` } : {};
  return sendJson(response, 200, entries.slice(from, next), { ...headers, ratelimit: '"api";r=499;t=300' });
}

function entryOf({ path, bytes, kind }: HubFile): object {
  const entry = { type: 'file', path, size: bytes.length };
  if (kind === 'git') return { ...entry, oid: gitId(bytes) };
  const pointer = pointerOf(bytes);
  const lfs = { oid: sha256(bytes), size: bytes.length, pointerSize: pointer.length };
  return { ...entry, oid: gitId(pointer), lfs, ...(kind === 'xet' ? { xetHash: sha256(pointer) } : {}) };
}

/** Files in git come from a cache of the hub itself, others from a storage. */
function sendFile(hub: TestHub, repository: string, commit: string, file: HubFile, response: ServerResponse): true {
  const { bytes, kind, path } = file;
  const encoded = path.split('/').map(encodeURIComponent).join('/');
  const headers: Record<string, string> = {
    'x-repo-commit': commit,
    'x-linked-size': String(bytes.length),
    'x-linked-etag': `"${kind === 'git' ? gitId(bytes) : sha256(bytes)}"`,
  };
  if (kind === 'xet') {
    headers['x-xet-hash'] = sha256(pointerOf(bytes));
    headers.link = `<${hub.url}/api/${repository}/xet-read-token/${commit}>; rel="xet-auth"`;
  }
  headers.location =
    kind === 'git'
      ? `/api/resolve-cache/${repository}/${commit}/${encoded}`
      : hub.storage.sign(`${kind === 'xet' ? 'xet-bridge-us' : 'lfs'}/${sha256(bytes)}`, bytes);
  response.writeHead(kind === 'git' ? 307 : 302, headers);
  response.end();
  return true;
}

/** Requests to the hub's API and files, by path, without those of a storage. */
export function pathsOf(log: readonly IncomingMessage[]): string[] {
  return log.map(({ url }) => (url ?? '').split('?', 1)[0]);
}
