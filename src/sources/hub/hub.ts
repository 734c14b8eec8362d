import { NymphError } from '../../errors.ts';
import { hostMatches } from '../../plugins/hosts.ts';
import type { InstalledPlugin } from '../../plugins/plugin.ts';
import type { Endpoint } from '../http/endpoint.ts';
import type { PlaceErrors } from '../http/errors.ts';
import { type Conventions, conventionsOf } from './conventions.ts';
import { hubErrors } from './errors.ts';
import type { HubSettings } from './settings.ts';
import { createToken } from './token.ts';

/** A hub as it is reached: what its driver declares, and what the settings make of it. */
export interface Hub {
  readonly scheme: string;
  /** Its address has no slash at its end that counts: paths are put behind it. */
  readonly endpoint: Endpoint;
  readonly errors: PlaceErrors;
  /** Headers that carry the token; empty without one. For the endpoint's origin alone. */
  authorization(): Promise<Record<string, string>>;
  /** How a host that the hub redirects to is reached. @throws NymphError `denied` for hosts that nobody has named, and for plain HTTP after HTTPS */
  admit(url: URL, what: string): Endpoint;
  /** @throws NymphError `precondition` where the environment forbids requests */
  requireOnline(): void;
}

/** No request is made, and no file read. @throws NymphError `config` */
export function openHub(plugin: InstalledPlugin, settings: HubSettings): Hub {
  const { description, builtIn } = plugin;
  const { scheme } = description;
  const usual = builtIn ? conventionsOf(scheme, settings.env ?? process.env) : undefined;
  const named = settings.endpoints?.[scheme] ?? usual?.endpoint;
  const url = parseEndpoint(named ?? description.endpoint, scheme);
  const endpoint: Endpoint = { url, upstream: true, foreign: named === undefined };
  const ownRedirects = settings.redirects?.[scheme] ?? [];
  const tokenFile = settings.tokenFiles?.[scheme];
  const token =
    tokenFile === undefined
      ? createToken(usual?.token, usual?.tokenFiles ?? [], false)
      : createToken(undefined, [tokenFile], true);
  let last: string | undefined;

  return {
    scheme,
    endpoint,
    errors: hubErrors(loginHint(scheme, usual), () => last),
    async authorization() {
      last = await token();
      const headers = last === undefined ? [] : description.tokenHeaders;
      return Object.fromEntries(headers.map(([name, value]) => [name, value.replace('{token}', () => last!)]));
    },
    admit(target, what) {
      if (target.origin === url.origin) return endpoint;
      if (url.protocol === 'https:' && target.protocol !== 'https:')
        throw new NymphError('denied', `${url.host} redirects ${what} to ${target.origin}, which is not encrypted`, {
          hint: "What comes that way could be anybody's. Ask who runs the hub, or whether something stands between.",
        });
      if (hostMatches(ownRedirects, target)) return { url: target, upstream: true };
      const isDeclared = target.protocol === 'https:' && hostMatches(description.redirects, target);
      if (isDeclared) return { url: target, upstream: true, foreign: true };
      throw new NymphError('denied', `${url.host} redirects ${what} to ${target.origin}: nobody has named that host`, {
        hint: `If it is right, name it in the configuration: \`redirects = { ${scheme} = [${JSON.stringify(target.host)}] }\` in [hub].`,
      });
    },
    requireOnline() {
      if (usual?.offline !== undefined)
        throw new NymphError('precondition', `${scheme}:// is not asked: ${usual.offline} is set for the daemon`);
    },
  };
}

/** The address of a path below a hub. */
export function hubAddress({ endpoint }: Hub, path: string): URL {
  return new URL(endpoint.url.href.replace(/\/$/, '') + path);
}

function parseEndpoint(text: string, scheme: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain = url !== undefined && /^https?:$/.test(url.protocol) && !url.username && !url.password;
  if (url === undefined || !isPlain || url.search !== '' || url.hash !== '')
    throw new NymphError('config', `the endpoint of ${scheme}:// is no address of a hub`, {
      hint: 'Write `https://host`, maybe with a path: in `endpoints` of [hub], or in the environment of the daemon.',
    });
  return url;
}

function loginHint(scheme: string, usual: Conventions | undefined): string {
  const file = `name a file with a token in \`token_files = { ${scheme} = "/path" }\` of [hub]`;
  return usual === undefined ? file : `${usual.login}, or ${file}`;
}
