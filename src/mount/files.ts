import { NymphError } from '../errors.ts';
import { artifactPlans, isFilesArtifact } from '../formats/artifact/manifest.ts';
import { listOfLayers } from '../formats/files/layers.ts';
import { mayHoldChosen } from '../formats/files/subset.ts';
import { isModelKit, kitPlans } from '../formats/modelkit/manifest.ts';
import { describeModel, type ModelDescription } from '../formats/modelpack/description.ts';
import { isModelPack, modelPlans } from '../formats/modelpack/manifest.ts';
import type { LayerPlan } from '../image/files.ts';
import { isObject, parseDescriptor, parseJsonObject } from '../sources/descriptor.ts';
import { parseReference, placeOf } from '../sources/reference.ts';
import type { Descriptor, Manifest, Repository } from '../sources/source.ts';
import { jobBeside } from '../threads/job.ts';
import type { FilesRequest, LoadedFiles } from './files-job.ts';
import { readTars, type TarLayers, type TarLayersOptions } from './tar-layers.ts';

/** Makes an image of a list of files. */
export const FILES = jobBeside<FilesRequest, LoadedFiles>(import.meta.url, 'files-job');

/** Artifacts whose layers are files or tars of files, and the listings of hubs. */
export type FilesKind = 'modelpack' | 'modelkit' | 'artifact' | 'hub';

type ArtifactKind = Exclude<FilesKind, 'hub'>;

const PLANS: Record<ArtifactKind, (layers: readonly Descriptor[]) => LayerPlan[]> = {
  modelpack: modelPlans,
  modelkit: kitPlans,
  artifact: artifactPlans,
};

/** What a manifest holds, if it is no image of a container. @param name of what is read, for errors */
export function filesKind(manifest: Manifest, layers: readonly Descriptor[], name: string): FilesKind | undefined {
  const { artifactType, config } = parseJsonObject(manifest.bytes, name);
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  const configType = isObject(config) ? text(config.mediaType) : undefined;
  const kind = { artifactType: text(artifactType), configType, layers };
  if (isModelPack(kind)) return 'modelpack';
  if (isModelKit(kind)) return 'modelkit';
  return isFilesArtifact(kind) ? 'artifact' : undefined;
}

/** What the layers of an artifact are, as its manifest says. */
export function plansOf(kind: ArtifactKind, layers: readonly Descriptor[]): LayerPlan[] {
  return PLANS[kind](layers);
}

/** What the image of an artifact or a listing is made of, and what was read of it on the way. */
export interface FoundFiles {
  request: FilesRequest;
  tars?: TarLayers;
}

/**
 * Finds out what files an artifact or a listing has. Tars among its layers are looked into.
 * @throws NymphError `unsupported` for an artifact without files; as {@link readTars}
 */
export async function findFiles(
  kind: FilesKind,
  manifest: Manifest,
  layers: readonly Descriptor[],
  options: TarLayersOptions & { subset?: readonly string[] },
): Promise<FoundFiles> {
  const { subset } = options;
  const name = options.from.reference;
  const place = placeOf(parseReference(name));
  // It may list many thousands: that is read where the image is made of it.
  if (kind === 'hub') return { request: { list: { listing: manifest.bytes, place }, name, subset } };
  const plans = plansOf(kind, layers).filter((plan) => subset === undefined || mayHoldChosen(subset, plan));
  const tars = await readTars(plans, options);
  const files = listOfLayers(kind, plans, tars.held, place);
  const list = { ...files, warnings: [...files.warnings, ...tars.warnings] };
  if (list.files.length === 0 && subset === undefined)
    throw new NymphError('unsupported', `${name} is a model without files`);
  return { request: { list, name, subset }, tars };
}

/** A configuration is some hundred bytes. */
const MOST_CONFIG = 1 << 20;

/** What the configuration of an artifact tells of its model; undefined where there is none. */
export async function readDescription(
  manifest: Manifest,
  from: Repository,
  signal: AbortSignal,
): Promise<ModelDescription | undefined> {
  const { config } = parseJsonObject(manifest.bytes, from.reference);
  if (!isObject(config)) return undefined;
  const { digest, size } = parseDescriptor(config, `config of ${from.reference}`);
  if (size === 0 || size > MOST_CONFIG) return undefined;
  return describeModel(await from.get({ digest, size }, MOST_CONFIG, signal));
}
