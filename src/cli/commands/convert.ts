import { type Conversion, convertImage } from '../../build/convert.ts';
import { workDirectory } from '../../build/work-directory.ts';
import { registryOptions } from '../../daemon/registry-options.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import { NymphError } from '../../errors.ts';
import { openRepository, openTarget } from '../../sources/open.ts';
import { formatPlatform, machinePlatform, parsePlatform } from '../../sources/platform.ts';
import {
  formatReference,
  type LayoutReference,
  parseReference,
  type RegistryReference,
} from '../../sources/reference.ts';
import { createRegistryNetwork } from '../../sources/registry/network.ts';
import { imageOptions, type PackingOptions } from '../build-options.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { plural, printable } from '../text.ts';

export interface ConvertOptions extends PackingOptions {
  platform?: string[];
  allPlatforms?: boolean;
  index?: boolean;
}

/** What `nymph convert --json` prints. Sizes in bytes. */
export interface ConvertReport {
  source: string;
  /** What is to be mounted: with the tag, or with the digest where there is none. */
  reference: string;
  /** Of the manifest, or of the index. */
  digest: string;
  mediaType: string;
  images: (Omit<Conversion['images'][number], 'platform' | 'leftOut'> & {
    platform: string;
    attributesLeftOut: number;
  })[];
  milliseconds: number;
}

/** `nymph convert`: in this process, without a daemon. */
export async function run(
  context: Context,
  source: string,
  destination: string | undefined,
  options: ConvertOptions,
): Promise<undefined> {
  const places = findPlaces(canonicalReference(source), destination, options.index === true);
  const { from, to, inPlace } = places;
  const started = performance.now();
  const view = progressView();
  const network = createRegistryNetwork(registryOptions(context.config));
  // Another file system for the work would cost a copy of each blob.
  const work = await workDirectory(to.kind === 'layout' ? to.path : (process.env.TMPDIR ?? '/var/tmp'));
  try {
    const conversion = await convertImage(
      {
        from: openRepository(from, { network }),
        to: openTarget(to, network),
        tag: destination === undefined ? undefined : to.tag,
        inPlace,
        ...(from.kind === 'registry' && to.kind === 'registry' && from.host === to.host && !inPlace
          ? { mountFrom: from.repository }
          : {}),
        platforms: options.allPlatforms ? 'all' : (options.platform?.map(parsePlatform) ?? [machinePlatform()]),
        index: options.index === true,
        options: await imageOptions(options),
        directory: work.path,
      },
      { progress: view.update, signal: context.interruption() },
    );
    view.clear();
    const { tag: _, digest: __, ...place } = to;
    const name = destination === undefined ? { ...place, digest: conversion.digest as `sha256:${string}` } : to;
    const report = reportOf(formatReference(from), formatReference(name), conversion, performance.now() - started);
    context.print(report, () => textOf(report));
  } catch (error) {
    view.clear();
    throw error;
  } finally {
    await network.close();
    await work.remove();
  }
}

type Place = RegistryReference | LayoutReference;

function findPlaces(
  source: string,
  destination: string | undefined,
  index: boolean,
): { from: Place; to: Place; inPlace: boolean } {
  const from = placeOf(source);
  if (destination === undefined) {
    if (!index) return { from, to: from, inPlace: true };
    throw new NymphError('usage', 'an index needs a destination', {
      hint: 'Name it: the source itself, if its tag shall mean both from now on.',
    });
  }
  const to = placeOf(destination);
  if (to.digest !== undefined) throw new NymphError('usage', `${destination} is a digest, not a place to put an image`);
  const inPlace = where(from) === where(to);
  if (inPlace && !index && from.tag === to.tag && from.digest === undefined)
    throw new NymphError('usage', `${formatReference(to)} would no longer be the ordinary image`, {
      hint: 'Name another tag; or use --index, so that the tag means both.',
    });
  return { from, to: to.kind === 'layout' && to.tag === undefined ? { ...to, tag: 'latest' } : to, inPlace };
}

function placeOf(text: string): Place {
  const reference = parseReference(text);
  if (reference.kind === 'registry' || reference.kind === 'layout') return reference;
  throw new NymphError('usage', `${text} is neither in a registry nor in an OCI layout`, {
    hint: 'Write `host/name:tag` or `oci:PATH:TAG`; `nymph build` makes images from directories and tars.',
  });
}

function where(place: Place): string {
  return place.kind === 'layout' ? `oci:${place.path}` : `${place.host}/${place.repository}`;
}

function reportOf(source: string, reference: string, conversion: Conversion, milliseconds: number): ConvertReport {
  const { digest, mediaType, images } = conversion;
  return {
    ...{ source, reference, digest, mediaType },
    images: images.map(({ platform, leftOut, ...image }) => ({
      ...{ platform: formatPlatform(platform), ...image },
      attributesLeftOut: leftOut.count,
    })),
    milliseconds: Math.round(milliseconds),
  };
}

function textOf({ source, reference, digest, images, milliseconds }: ConvertReport): string {
  const name = reference.includes('@') ? reference : `${reference}@${digest}`;
  return [
    `converted ${printable(source)} to ${printable(name)} in ${formatDuration(milliseconds)}`,
    ...images.map((image) => {
      const before = image.layers.reduce((sum, { sourceSize }) => sum + sourceSize, 0);
      const blobs = image.layers.filter(({ blob }) => blob !== undefined);
      const sent = blobs.filter(({ how }) => how === 'sent').length;
      const stored = blobs.reduce((sum, { size }) => sum + size!, 0);
      const leftOut = image.attributesLeftOut === 0 ? '' : `; ${plural(image.attributesLeftOut, 'attribute')} left out`;
      return `  ${image.platform}: ${formatSize(before)} in ${plural(image.layers.length, 'layer')} became ${formatSize(stored)} in ${plural(blobs.length, 'blob')}, ${sent} of them new there${leftOut}`;
    }),
  ].join('\n');
}
