import { type LookupAddress, type LookupOptions, lookup } from 'node:dns';
import { BlockList, isIP } from 'node:net';
import { NymphError } from '../../errors.ts';

const OWN = new BlockList();
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 4],
  // Metadata services beyond the link: Alibaba, Azure, Oracle.
  ['100.100.100.200', 32],
  ['168.63.129.16', 32],
  ['192.0.0.192', 32],
] as const)
  OWN.addSubnet(network, bits, 'ipv4');
for (const [network, bits] of [
  ['::', 128],
  ['::1', 128],
  ['fe80::', 10],
  ['fd00:ec2::', 32],
  ['ff00::', 8],
  // 169.254.0.0 and 127.0.0.0 as a NAT64 is asked for them.
  ['64:ff9b::a9fe:0', 112],
  ['64:ff9b::7f00:0', 104],
] as const)
  OWN.addSubnet(network, bits, 'ipv6');

/** True for addresses of this machine and of its link, and where else clouds have their metadata services. */
export function isOwnAddress(address: string): boolean {
  const family = isIP(address);
  // `::ffff:127.0.0.1` is read as the address of IPv4 that it is.
  return family !== 0 && OWN.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

type Callback = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/**
 * For a name that comes from outside and is asked for through a proxy, which looks it up itself, and may stand on this
 * machine or its link. Where names of the outside are not known here the proxy alone decides.
 * @throws NymphError `denied` where it leads to this machine or its link
 */
export function refuseOwnAddress(hostname: string): Promise<void> {
  return new Promise((resolve, reject) => {
    foreignLookup(hostname.replace(/^\[|\]$/g, ''), { all: true }, (error) => {
      if (error instanceof NymphError) reject(error);
      else resolve();
    });
  });
}

/** As `dns.lookup`, for names that come from outside: `denied` where one leads to this machine or its link. */
export function foreignLookup(hostname: string, options: LookupOptions, callback: Callback): void {
  lookup(hostname, options, (error, address, family) => {
    const addresses = Array.isArray(address) ? address.map((entry: LookupAddress) => entry.address) : [address];
    if (error || !addresses.some(isOwnAddress)) return callback(error, address, family);
    callback(
      new NymphError(
        'denied',
        `${hostname} is an address of this machine, its link or its cloud: nothing is asked there`,
      ),
      address,
      family,
    );
  });
}
