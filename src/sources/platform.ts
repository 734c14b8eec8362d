import { NymphError } from '../errors.ts';
import type { Descriptor } from './source.ts';

/** Names as in Go's GOOS and GOARCH (OCI image-spec, "Image Index"), normalised: see {@link parsePlatform}. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  /** Absent where it is the architecture's first: `amd64/v1`, `arm64/v8`. `arm` always has one. */
  readonly variant?: string;
}

/** Marks of a Nydus manifest in an index that also holds the plain image. */
export const NYDUS_FEATURE = 'nydus.remoteimage.v1';
export const NYDUS_ARTIFACT = 'application/vnd.nydus.image.manifest.v1+json';

const ALIASES: Record<string, string> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  x64: 'amd64',
  aarch64: 'arm64',
  armhf: 'arm/v7',
  armel: 'arm/v6',
  i386: '386',
  ia32: '386',
};
const FIRST_VARIANT: Record<string, string> = { amd64: 'v1', arm64: 'v8' };

/**
 * Reads `os/architecture[/variant]`. Usual other names are understood (`linux/x86_64`, `linux/aarch64`).
 * @throws NymphError `usage`
 */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/');
  if (parts.length < 2 || parts.length > 3 || parts.some((part) => !/^[a-z0-9][a-z0-9._-]*$/.test(part)))
    throw new NymphError('usage', `wrong platform ${JSON.stringify(text)}`, {
      hint: 'Write `os/architecture` or `os/architecture/variant`, like `linux/arm64`.',
    });
  return normalise(parts[0], parts[1], parts[2]);
}

export function formatPlatform(platform: Platform): string {
  return `${platform.os}/${platform.architecture}${platform.variant ? `/${platform.variant}` : ''}`;
}

/** The platform of images that run here. `architecture` is named as in `process.arch`. */
export function machinePlatform(architecture: string = process.arch): Platform {
  const littleEndian = architecture === 'ppc64' || architecture === 'mips';
  return normalise('linux', littleEndian ? `${architecture}le` : architecture, undefined);
}

/** True if a descriptor of an index says that its image is in the Nydus format. */
export function isNydusDescriptor(descriptor: Descriptor): boolean {
  return (
    descriptor.artifactType === NYDUS_ARTIFACT ||
    (descriptor.platform?.['os.features']?.includes(NYDUS_FEATURE) ?? false)
  );
}

/**
 * The manifest of an index that a platform wants: the Nydus one where there are several, the highest variant that the
 * machine runs (32-bit ARM runs lower ones). A lone descriptor without platform fits every platform.
 * @throws NymphError `not-found`, naming what there is
 */
export function selectManifest(manifests: readonly Descriptor[], platform: Platform): Descriptor {
  return select(manifests, platform, true);
}

/** The one that containerd takes: as `selectManifest`, but Nydus is nothing special to it, and the first of several counts. */
export function selectAsContainerd(manifests: readonly Descriptor[], platform: Platform): Descriptor {
  return select(manifests, platform, false);
}

function select(manifests: readonly Descriptor[], platform: Platform, preferNydus: boolean): Descriptor {
  let best: Descriptor | undefined;
  let bestRank = -1;
  for (const descriptor of manifests) {
    const rank = rankOf(descriptor, platform, preferNydus);
    if (rank <= bestRank) continue;
    best = descriptor;
    bestRank = rank;
  }
  if (best) return best;
  const anonymous = manifests.filter((descriptor) => descriptor.platform?.os === undefined);
  if (anonymous.length === 1 && manifests.length === 1) return anonymous[0];
  const known = [...new Set(manifests.map(describe).filter((name) => name !== undefined))];
  throw new NymphError('not-found', `the image has no manifest for ${formatPlatform(platform)}`, {
    hint: known.length === 0 ? undefined : `It has ${known.slice(0, 20).join(', ')}: name one with --platform.`,
  });
}

/** -1: does not fit; else higher is better. */
function rankOf(descriptor: Descriptor, wanted: Platform, preferNydus: boolean): number {
  const has = descriptor.platform;
  if (!has?.os || !has.architecture) return -1;
  const offered = normalise(has.os.toLowerCase(), has.architecture.toLowerCase(), has.variant?.toLowerCase());
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return -1;
  let rank = 0;
  if (offered.variant !== wanted.variant) {
    const lower = wanted.architecture === 'arm' ? armVersion(offered.variant) : 0;
    if (lower === 0 || lower > armVersion(wanted.variant)) return -1;
    rank = lower;
  } else rank = 9;
  return preferNydus && isNydusDescriptor(descriptor) ? rank + 10 : rank;
}

function armVersion(variant: string | undefined): number {
  return /^v[5-8]$/.test(variant ?? '') ? Number(variant!.slice(1)) : 0;
}

function describe(descriptor: Descriptor): string | undefined {
  const { os, architecture, variant } = descriptor.platform ?? {};
  if (!os || !architecture || os === 'unknown') return undefined;
  return formatPlatform(normalise(os, architecture, variant))
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 60);
}

function normalise(os: string, name: string, givenVariant: string | undefined): Platform {
  const [architecture, aliasVariant] = (Object.hasOwn(ALIASES, name) ? ALIASES[name] : name).split('/');
  let variant: string | undefined = givenVariant || aliasVariant;
  if (variant && /^[0-9]+$/.test(variant)) variant = `v${variant}`;
  if (architecture === 'arm' && !variant) variant = 'v7';
  if (variant === FIRST_VARIANT[architecture]) variant = undefined;
  return { os, architecture, ...(variant ? { variant } : {}) };
}
