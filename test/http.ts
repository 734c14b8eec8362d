import { type IncomingHttpHeaders, request } from 'node:http';
import { text } from 'node:stream/consumers';

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** One HTTP request. @param to path of a unix socket, or `host:port` */
export function ask(
  to: string,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<HttpAnswer> {
  const [host, port] = to.split(':');
  const { method = 'GET', headers, body } = options;
  const where = to.startsWith('/') ? { socketPath: to } : { host, port };
  return new Promise((resolve, reject) => {
    const asking = request({ ...where, path, method, headers, agent: false }, (response) => {
      text(response).then(
        (answer) => resolve({ status: response.statusCode!, headers: response.headers, body: answer }),
        reject,
      );
    });
    asking.on('error', reject);
    asking.end(body);
  });
}
