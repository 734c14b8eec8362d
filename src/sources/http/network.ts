import { cancelled } from '../retry.ts';
import type { ConnectionSettings } from './endpoint.ts';
import type { PlaceErrors } from './errors.ts';
import type { HostBook } from './failover.ts';
import type { HttpRequest, HttpResponse } from './request.ts';
import type { Transport } from './transport.ts';

/** What all sources over HTTP share. */
export interface HttpNetwork extends HostBook {
  readonly transport: Transport;
}

/**
 * Sends one request; what fails is an error of ours.
 * @param what what is asked for, for errors
 * @throws NymphError `cancelled`, or what `errors` makes of it
 */
export async function send(
  network: HttpNetwork,
  request: HttpRequest,
  settings: ConnectionSettings,
  errors: PlaceErrors,
  what: string,
  signal: AbortSignal,
): Promise<HttpResponse> {
  try {
    return await network.transport.send(request, settings, signal);
  } catch (error) {
    if (signal.aborted) throw cancelled(what);
    throw errors.transport(error, what, request.url.host);
  }
}
