/** Worker thread: one of several readers of the same files at once. */
import { parentPort, workerData } from 'node:worker_threads';
import { digestFile, type How, randomSeries } from './read.ts';

export interface ReaderTask {
  files: { path: Uint8Array; size: number }[];
  how: How;
  seed: number;
}

const task = workerData as ReaderTask;
const random = randomSeries(task.seed);
const digests = task.files.map((file) => digestFile(Buffer.from(file.path), file.size, task.how, random));
parentPort!.postMessage(digests);
