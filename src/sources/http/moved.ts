import type { NymphError } from '../../errors.ts';
import { discard, type HttpResponse } from './request.ts';

/** Where objects really are, by who said so. Their queries hold secrets. */
export type Targets = Map<string, URL>;

/** An answer, and where it came from if we were sent elsewhere. */
export interface Led {
  response: HttpResponse;
  target?: URL;
}

/**
 * Asks where the object was last; where that fails, or is not known yet, asks the place itself, which says where it is now:
 * signed addresses expire.
 * @param key who is asked, in `targets`; @param askTarget asks a remembered address, as it is
 */
export async function askWhereItWas(
  targets: Targets,
  key: string,
  askTarget: (target: URL) => Promise<HttpResponse>,
  ask: () => Promise<Led>,
): Promise<HttpResponse> {
  const target = targets.get(key);
  if (target) {
    const response = await askTarget(target).catch((error: NymphError) => {
      if (error.code === 'cancelled') throw error;
      return undefined;
    });
    if (response && (response.status === 200 || response.status === 206)) return response;
    // Expired: 401, 403, at times 400 or 404.
    if (targets.get(key) === target) targets.delete(key);
    if (response) await discard(response);
  }
  const answer = await ask();
  if (answer.target && (answer.response.status === 200 || answer.response.status === 206))
    targets.set(key, answer.target);
  return answer.response;
}
