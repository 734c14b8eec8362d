import { checkLocation } from '../../plugins/check.ts';
import { endpointKey } from '../http/endpoint.ts';
import { askWhereItWas, type Targets } from '../http/moved.ts';
import type { HttpNetwork } from '../http/network.ts';
import { openRanged } from '../http/ranged.ts';
import { orCancelled } from '../retry.ts';
import type { Source } from '../source.ts';
import { askAddress, askHub } from './exchange.ts';
import type { Hub } from './hub.ts';

/**
 * Opens a file of a hub for range reads. Where it really is (a storage, by a signed address) is asked anew when that
 * address has expired.
 * @param location as the listing has it: `hf:/OWNER/NAME/resolve/<commit>/model.safetensors`
 * @throws NymphError `corrupt` for the location of another hub
 */
export function openHubFile(network: HttpNetwork, hub: Hub, location: string, size: number | undefined): Source {
  const targets: Targets = new Map();
  /** Hubs count who asks them: those who come while somebody asks where a file is wait for the answer. */
  let asking: Promise<unknown> | undefined;
  /** The hub sends the file itself: there is no answer to wait for. */
  let isDirect = false;
  const path = checkLocation(`the listing of ${hub.scheme}://`, 'a location', location.slice(hub.scheme.length + 1));
  const what = `${hub.scheme}:/${path.split('?', 1)[0]}`;
  return openRanged(network, {
    name: hub.endpoint.url.host,
    what,
    size,
    errors: hub.errors,
    endpoints: async () => [hub.endpoint],
    async request(endpoint, headers, signal) {
      const question = { path, headers, what };
      const request = () =>
        askWhereItWas(
          targets,
          endpointKey(endpoint),
          (target) => askAddress(network, hub, target, question, signal),
          async () => {
            const led = await askHub(network, hub, question, signal);
            isDirect = led.target === undefined;
            return led;
          },
        );
      if (targets.size > 0 || isDirect) return request();
      if (asking !== undefined) await orCancelled(asking, signal, what);
      else {
        const mine = request();
        asking = mine.catch(() => {}).finally(() => (asking = undefined));
        return mine;
      }
      return request();
    },
    forget: (endpoint) => void targets.delete(endpointKey(endpoint)),
  });
}
