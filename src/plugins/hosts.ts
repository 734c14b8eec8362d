import { isIP } from 'node:net';

/**
 * Hosts as drivers and settings name them: `host`, `host:port`, or `*.host` for all that is below it. Without a port, the
 * usual one of the protocol is meant.
 */

const NAME = /^(?:\*\.)?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::\d{1,5})?$/;

/** True for what a host can look like, in small letters; an address of IPv6 in brackets. */
export function isHostPattern(text: string): boolean {
  if (text.length > 255) return false;
  return NAME.test(text) || /^\[[0-9a-f:.]+\](?::\d{1,5})?$/.test(text);
}

/**
 * True for names that a driver may give: of the internet, as far as a name can tell. Addresses, names without a dot and
 * names of this machine are for whoever runs nymph to say; so is `*.` of a whole top-level domain.
 */
export function isPublicHost(text: string): boolean {
  const host = text.replace(/:\d+$/, '').replace(/^\*\./, '');
  if (!isHostPattern(text) || isIP(host) !== 0 || host.startsWith('[') || /^[\d.]+$/.test(host)) return false;
  return host.includes('.') && !/(?:^|\.)(?:localhost|local|internal|localdomain)$/.test(host);
}

/** Whether one of these patterns means the host of an address. */
export function hostMatches(patterns: readonly string[], url: URL): boolean {
  return patterns.some((pattern) => {
    const port = /:(\d+)$/.exec(pattern);
    const name = port ? pattern.slice(0, port.index) : pattern;
    if ((port?.[1] ?? '') !== url.port) return false;
    return name.startsWith('*.') ? url.hostname.endsWith(name.slice(1)) : url.hostname === name;
  });
}
