import { jobBeside } from '../threads/job.ts';
import type { FilesRanges, FilesRangesRequest } from './files-ranges-job.ts';
import type { PlacesRequest } from './places-job.ts';

/** Which ranges of an image's blobs hold files. */
export const FILES_RANGES = jobBeside<FilesRangesRequest, FilesRanges>(import.meta.url, 'files-ranges-job');

/** Whose bytes are at places in the blobs of an image. */
export const PLACES = jobBeside<PlacesRequest, (string | undefined)[]>(import.meta.url, 'places-job');
