import type { ServerResponse } from 'node:http';
import { type HubFile, sha256 } from './files.ts';
import { type HubOptions, sendJson, startHub, type TestHub } from './server.ts';

/**
 * ModelScope, as much of it as lists and reads repositories. Recorded shapes: modelscope_hub, `_legacy_api.py` and
 * `_download.py`. A file's commit is the first one that has it as it is.
 */
export function startModelScope(options: HubOptions): Promise<TestHub> {
  return startHub(options, (hub, { token }, request, response) => {
    const url = new URL(request.url ?? '/', hub.url);
    const match = /^\/api\/v1\/(models|datasets)\/([^/]+\/[^/]+)\/repo(\/files|\/tree|)$/.exec(url.pathname);
    if (match === null) return undefined;
    const [, type, id, list] = match;
    const repository = hub.repositories[`${type}/${id}`];
    const isKnown =
      token !== undefined &&
      request.headers.authorization === `Bearer ${token}` &&
      request.headers.cookie === `m_session_id=${token}`;
    if (repository === undefined || (repository.private && !isKnown))
      return refuse(response, 404, 10010205001, `record not found: ${id}`);
    const revision = url.searchParams.get('Revision') ?? 'master';
    const commit = repository.branches[revision] ?? revision;
    const files = repository.commits[commit];
    if (files === undefined) return refuse(response, 404, 10010205003, `revision ${revision} does not exist`);
    if (list !== '') {
      if ((list === '/tree') !== (type === 'datasets')) return undefined;
      return sendListing(url, files, repository.commits, type === 'datasets', response);
    }
    const file = files.find((candidate) => candidate.path === url.searchParams.get('FilePath'));
    if (file === undefined) return refuse(response, 404, 10010205004, 'file not found');
    if (file.kind === 'git') {
      // Small files come whole, whatever range is asked for.
      response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': file.bytes.length });
      response.end(file.bytes);
      return true;
    }
    const key = `prod/lfs-objects/${sha256(file.bytes)}`;
    response.writeHead(302, { location: hub.storage.sign(key, file.bytes) });
    response.end();
    return true;
  });
}

function sendListing(
  url: URL,
  files: HubFile[],
  commits: Record<string, HubFile[]>,
  paged: boolean,
  response: ServerResponse,
): true {
  const root = url.searchParams.get('Root');
  const inside = files.filter((file) => root === null || file.path.startsWith(`${root}/`));
  const directories = new Set(inside.flatMap(({ path }) => path.split('/').slice(0, -1).join('/') || []));
  const entries = [
    ...Array.from(directories, (path) => ({ Type: 'tree', Path: path, Name: path, Size: 0, Sha256: '' })),
    ...inside.map((file) => ({
      Type: 'blob',
      Path: file.path,
      Name: file.path.split('/').at(-1),
      Size: file.bytes.length,
      Sha256: sha256(file.bytes),
      IsLFS: file.kind !== 'git',
      Mode: '33188',
      CommittedDate: 1705049786,
      Revision: Object.entries(commits).find(([, list]) => list.some((other) => isSame(file, other)))![0],
    })),
  ];
  const size = Number(url.searchParams.get('PageSize') ?? entries.length);
  const from = (Number(url.searchParams.get('PageNumber') ?? 1) - 1) * size;
  const page = paged ? entries.slice(from, from + size) : entries;
  return sendJson(response, 200, {
    Code: 200,
    Data: { Files: page, IsVisual: 0, LatestCommitter: { Id: '', ShortId: '' } },
    Message: '',
    RequestId: 'f3b1',
    Success: true,
    TotalCount: entries.length,
  });
}

function isSame(a: HubFile, b: HubFile): boolean {
  return a.path === b.path && a.bytes.equals(b.bytes);
}

function refuse(response: ServerResponse, status: number, code: number, message: string): true {
  return sendJson(response, status, { Code: code, Message: message, RequestId: 'f3b2', Success: false });
}
