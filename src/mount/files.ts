import { NymphError } from '../errors.ts';
import { artifactFiles, isFilesArtifact } from '../formats/artifact/manifest.ts';
import { isModelPack, modelFiles } from '../formats/modelpack/manifest.ts';
import type { FileList } from '../image/files.ts';
import { isObject, parseJsonObject } from '../sources/descriptor.ts';
import { parseReference, placeOf } from '../sources/reference.ts';
import type { Descriptor, Manifest } from '../sources/source.ts';
import { jobBeside } from '../threads/job.ts';
import type { FilesRequest, LoadedFiles } from './files-job.ts';

/** Makes an image of a list of files. */
export const FILES = jobBeside<FilesRequest, LoadedFiles>(import.meta.url, 'files-job');

/** Artifacts whose layers are files as they stand, and the listings of hubs. */
export type FilesKind = 'modelpack' | 'artifact' | 'hub';

type ArtifactKind = Exclude<FilesKind, 'hub'>;

/** What a manifest holds, if it is no image of a container. @param name of what is read, for errors */
export function filesKind(manifest: Manifest, layers: readonly Descriptor[], name: string): FilesKind | undefined {
  const { artifactType, config } = parseJsonObject(manifest.bytes, name);
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  const configType = isObject(config) ? text(config.mediaType) : undefined;
  const kind = { artifactType: text(artifactType), configType, layers };
  if (isModelPack(kind)) return 'modelpack';
  return isFilesArtifact(kind) ? 'artifact' : undefined;
}

/** What the image of an artifact or a listing is made of. @throws NymphError as {@link listFiles} */
export function filesRequest(
  kind: FilesKind,
  manifest: Manifest,
  layers: readonly Descriptor[],
  name: string,
): FilesRequest {
  if (kind !== 'hub') return { list: listFiles(kind, layers, name), name };
  // It may list many thousands: that is read where the image is made of it.
  return { list: { listing: manifest.bytes, place: placeOf(parseReference(name)) }, name };
}

/** @throws NymphError `unsupported` for an artifact without files, or with layers that are not served */
export function listFiles(kind: ArtifactKind, layers: readonly Descriptor[], reference: string): FileList {
  const list = (kind === 'modelpack' ? modelFiles : artifactFiles)(layers, placeOf(parseReference(reference)));
  if (list.files.length === 0) throw new NymphError('unsupported', `${reference} is a model without files`);
  return list;
}
