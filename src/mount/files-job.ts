/** The files job: turns a list of files out of an untrusted manifest or listing into an image. */
import { hash } from 'node:crypto';
import { type FilesImage, imageOfFiles } from '../formats/files/image.ts';
import { filesOfListing } from '../formats/files/listing.ts';
import { chosenFiles } from '../formats/files/subset.ts';
import type { FileList } from '../image/files.ts';
import type { OciDigest } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';

export interface FilesRequest {
  /** A list, or the listing of a hub that is one yet to be read: its bytes, and where it is from. */
  list: FileList | { listing: Uint8Array; place: string };
  /** What it was read from, for errors. */
  name: string;
  /** As for {@link chosenFiles}; all files without. */
  subset?: readonly string[];
}

export interface LoadedFiles extends FilesImage {
  bootstrapDigest: OciDigest;
}

export function run({ list, name, subset }: FilesRequest): JobResult<LoadedFiles> {
  const all = 'listing' in list ? filesOfListing(list.listing, list.place, name) : list;
  const loaded = imageOfFiles(subset === undefined ? all : chosenFiles(all, subset, name), name);
  const bootstrapDigest: OciDigest = `sha256:${hash('sha256', loaded.bootstrap, 'hex')}`;
  return { output: { ...loaded, bootstrapDigest }, transfer: [loaded.bootstrap.buffer] };
}
