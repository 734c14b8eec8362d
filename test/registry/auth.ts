import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { BasicAuth, TokenAuth } from './faults.ts';

/** The tokens of one registry. */
export interface TokenDesk {
  /** Answers a request for a token. */
  serve(request: IncomingMessage, response: ServerResponse, url: URL, auth: TokenAuth): Promise<void>;
  /** True if the request may do that with the repository: `pull`, or `pull,push`. */
  allows(request: IncomingMessage, auth: TokenAuth | BasicAuth, repository: string, access: string): boolean;
  /** Makes every token that was given worthless. */
  revoke(): void;
}

export function createTokenDesk(): TokenDesk {
  const tokens = new Map<string, { scope: string; until: number }>();
  return {
    async serve(request, response, url, auth) {
      const form = request.method === 'POST' ? new URLSearchParams(await readText(request)) : url.searchParams;
      if (!mayHaveToken(request, form, auth)) {
        response.writeHead(401, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'wrong credentials' }] }));
        return;
      }
      const token = randomBytes(16).toString('hex');
      const lifetime = auth.lifetime ?? 300;
      tokens.set(token, { scope: form.get('scope') ?? '', until: Date.now() + lifetime * 1000 });
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(
        JSON.stringify({ [request.method === 'POST' ? 'access_token' : 'token']: token, expires_in: lifetime }),
      );
    },
    allows(request, auth, repository, access) {
      const header = request.headers.authorization ?? '';
      if (auth.kind === 'basic') return header === basic(auth.username, auth.password);
      const grant = tokens.get(header.replace(/^Bearer /, ''));
      return (
        grant !== undefined && grant.until > Date.now() && grant.scope.startsWith(`repository:${repository}:${access}`)
      );
    },
    revoke: () => tokens.clear(),
  };
}

/** The `WWW-Authenticate` header of a 401. */
export function challenge(auth: TokenAuth | BasicAuth, url: string, repository: string, access: string): string {
  if (auth.kind === 'basic') return 'Basic realm="test, registry"';
  return `Bearer realm="${url}/token",service="test registry",scope="repository:${repository}:${access}"`;
}

function mayHaveToken(request: IncomingMessage, form: URLSearchParams, auth: TokenAuth): boolean {
  if (auth.identityToken !== undefined)
    return form.get('grant_type') === 'refresh_token' && form.get('refresh_token') === auth.identityToken;
  if (auth.username === undefined) return request.headers.authorization === undefined;
  return request.headers.authorization === basic(auth.username, auth.password ?? '');
}

function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
