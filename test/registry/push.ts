import { createHash, randomUUID } from 'node:crypto';
import { copyFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { type Faults, type Stats, useFault } from './faults.ts';

/** The push part of a registry: uploads in one piece or several, mounts, manifests. */
export interface Receiver {
  /** @returns false if the request is none of a push */
  serve(request: IncomingMessage, response: ServerResponse, url: URL): Promise<boolean>;
  /** Manifests whose subject is this digest. */
  referrers(name: string, digest: string): Promise<object[]>;
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const REF_NAME = 'org.opencontainers.image.ref.name';

type Send = (response: ServerResponse, status: number, code: string) => void;

/** @param layouts where what is pushed goes, by repository: directories that may be empty */
export function createReceiver(
  layouts: Record<string, string>,
  faults: Faults,
  stats: Stats,
  sendError: Send,
): Receiver {
  const uploads = new Map<string, { name: string; bytes: Buffer }>();
  const blobPath = (name: string, digest: string) =>
    join(layouts[name], 'blobs/sha256', digest.slice('sha256:'.length));

  const save = async (path: string, bytes: Uint8Array) => {
    await mkdir(dirname(path), { recursive: true });
    const draft = `${path}.${randomUUID()}`;
    await writeFile(draft, bytes);
    await rename(draft, path);
  };

  /** Body bytes until the end, or until a fault cuts the connection; what came until then is kept, if the fault says so. */
  const receive = async (request: IncomingMessage, id: string): Promise<boolean> => {
    const upload = uploads.get(id)!;
    const cut = faults.upload?.kind === 'cut' ? useFault(faults.upload) : undefined;
    const parts = [upload.bytes];
    let size = 0;
    try {
      for await (const chunk of request as AsyncIterable<Buffer>) {
        const kept = cut?.kind === 'cut' ? chunk.subarray(0, Math.max(0, cut.after - size)) : chunk;
        size += kept.length;
        stats.uploadBytes += kept.length;
        parts.push(kept);
        if (cut?.kind === 'cut' && size >= cut.after) {
          if (cut.keeps) upload.bytes = Buffer.concat(parts);
          else uploads.delete(id);
          request.socket.destroy();
          return false;
        }
      }
    } catch {
      // The client went away: what it had sent counts.
    }
    upload.bytes = Buffer.concat(parts);
    return true;
  };

  const begin = async (response: ServerResponse, name: string, url: URL) => {
    const [digest, from] = [url.searchParams.get('mount') ?? '', url.searchParams.get('from') ?? ''];
    if (DIGEST.test(digest) && Object.hasOwn(layouts, from)) {
      await mkdir(join(layouts[name], 'blobs/sha256'), { recursive: true });
      const copied = await copyFile(blobPath(from, digest), blobPath(name, digest)).then(
        () => true,
        () => false,
      );
      if (copied) {
        response.writeHead(201, { location: `/v2/${name}/blobs/${digest}`, 'docker-content-digest': digest }).end();
        return;
      }
    }
    const id = randomUUID();
    uploads.set(id, { name, bytes: Buffer.alloc(0) });
    stats.uploads++;
    response.writeHead(202, { location: `/v2/${name}/blobs/uploads/${id}?state=a%2Bb%3D`, range: '0-0' }).end();
  };

  const goOn = async (request: IncomingMessage, response: ServerResponse, name: string, id: string, url: URL) => {
    const upload = uploads.get(id);
    if (upload?.name !== name || url.searchParams.get('state') !== 'a+b=')
      return sendError(response, 404, 'BLOB_UPLOAD_UNKNOWN');
    const location = `/v2/${name}/blobs/uploads/${id}?state=a%2Bb%3D`;
    const range = () => `0-${Math.max(0, upload.bytes.length - 1)}`;
    if (request.method === 'GET') return void response.writeHead(204, { location, range: range() }).end();
    const most = faults.upload?.kind === 'too-large' ? faults.upload.most : Number.POSITIVE_INFINITY;
    if (Number(request.headers['content-length'] ?? 0) > most) {
      request.resume();
      return sendError(response, 413, 'SIZE_INVALID');
    }
    if (request.method === 'PATCH') {
      const [start] = /^\d+/.exec(request.headers['content-range'] ?? '') ?? [];
      if (Number(start) !== upload.bytes.length) {
        request.resume();
        return sendError(response, 416, 'RANGE_INVALID');
      }
      if (await receive(request, id)) response.writeHead(202, { location, range: range() }).end();
      return;
    }
    if (!(await receive(request, id))) return;
    const digest = url.searchParams.get('digest') ?? '';
    uploads.delete(id);
    if (digest !== `sha256:${createHash('sha256').update(upload.bytes).digest('hex')}`)
      return sendError(response, 400, 'DIGEST_INVALID');
    await save(blobPath(name, digest), upload.bytes);
    response.writeHead(201, { location: `/v2/${name}/blobs/${digest}` }).end();
  };

  const putManifest = async (request: IncomingMessage, response: ServerResponse, name: string, id: string) => {
    const parts: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) parts.push(chunk);
    const bytes = Buffer.concat(parts);
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    if (DIGEST.test(id) && id !== digest) return sendError(response, 400, 'DIGEST_INVALID');
    const manifest = JSON.parse(bytes.toString());
    await save(blobPath(name, digest), bytes);
    const descriptor: Record<string, unknown> = {
      mediaType: request.headers['content-type'],
      digest,
      size: bytes.length,
      ...(manifest.artifactType ? { artifactType: manifest.artifactType } : {}),
    };
    const entries = await indexOf(name);
    const others = entries.filter((entry) =>
      DIGEST.test(id) ? entry.digest !== digest || entry.annotations : entry.annotations?.[REF_NAME] !== id,
    );
    const entry = DIGEST.test(id) ? descriptor : { ...descriptor, annotations: { [REF_NAME]: id } };
    await save(
      join(layouts[name], 'index.json'),
      Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [...others, entry] })),
    );
    const knows = manifest.subject && faults.referrers !== 'absent';
    response.writeHead(201, {
      location: `/v2/${name}/manifests/${digest}`,
      'docker-content-digest': digest,
      ...(knows ? { 'oci-subject': manifest.subject.digest } : {}),
    });
    response.end();
  };

  const indexOf = async (name: string): Promise<{ digest: string; annotations?: Record<string, string> }[]> => {
    const text = await readFile(join(layouts[name], 'index.json'), 'utf8').catch(() => '{"manifests":[]}');
    return JSON.parse(text).manifests;
  };

  return {
    async serve(request, response, url) {
      const upload = /^\/v2\/(.+)\/blobs\/uploads\/([^/]*)$/.exec(url.pathname);
      const manifest = /^\/v2\/(.+)\/manifests\/([^/]+)$/.exec(url.pathname);
      const name = (upload ?? manifest)?.[1];
      if (name === undefined || !Object.hasOwn(layouts, name)) return false;
      if (upload?.[2] === '' && request.method === 'POST') await begin(response, name, url);
      else if (upload && ['GET', 'PATCH', 'PUT'].includes(request.method ?? ''))
        await goOn(request, response, name, upload[2], url);
      else if (manifest && request.method === 'PUT') await putManifest(request, response, name, manifest[2]);
      else return false;
      return true;
    },
    async referrers(name, digest) {
      if (!Object.hasOwn(layouts, name)) return [];
      const found: object[] = [];
      for (const entry of await indexOf(name)) {
        const manifest = JSON.parse(await readFile(blobPath(name, entry.digest), 'utf8'));
        // distribution-spec: the annotations are those of the manifest.
        if (manifest.subject?.digest === digest) found.push({ ...entry, annotations: manifest.annotations });
      }
      return found;
    },
  };
}
