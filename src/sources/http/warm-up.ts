import Agent from 'undici/lib/dispatcher/agent.js';
import { DEFAULT_TIMEOUTS, discard, sendRequest } from './request.ts';

/**
 * Sends one request to an HTTP server of our own on a unix socket: the HTTP client compiles its parser at its first
 * connection, which takes 20 ms that would fall on the first mount.
 * @returns whether the server answered with success
 */
export async function warmHttp(socketPath: string, path: string): Promise<boolean> {
  const agent = new Agent({ connect: { socketPath } });
  try {
    const request = { method: 'GET' as const, url: new URL(path, 'http://localhost'), headers: {} };
    const response = await sendRequest(agent, request, DEFAULT_TIMEOUTS, AbortSignal.timeout(5_000));
    await discard(response);
    return response.status === 200;
  } finally {
    await agent.destroy();
  }
}
