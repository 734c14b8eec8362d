import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { run } from './processes.ts';

/** Buffered reads of 4 KiB at random places, one thread, one after another. @returns reads a second */
export async function randomReads(path: string, seconds: number): Promise<number> {
  try {
    return await byFio(path, seconds);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return byLoop(path, seconds);
  }
}

async function byFio(path: string, seconds: number): Promise<number> {
  const options = ['--name=random', '--readonly', '--rw=randread', '--bs=4k', '--ioengine=psync', '--time_based'];
  const { out } = await run('fio', [...options, `--filename=${path}`, `--runtime=${seconds}`, '--output-format=json']);
  const { jobs } = JSON.parse(out.slice(out.indexOf('{'))) as { jobs: { read: { iops: number } }[] };
  return jobs[0].read.iops;
}

function byLoop(path: string, seconds: number): number {
  const fd = openSync(path, 'r');
  const blocks = Math.floor(fstatSync(fd).size / 4096);
  const buffer = Buffer.alloc(4096);
  const begun = performance.now();
  let reads = 0;
  for (; performance.now() - begun < seconds * 1000; reads++)
    readSync(fd, buffer, 0, 4096, Math.floor(Math.random() * blocks) * 4096);
  const elapsed = performance.now() - begun;
  closeSync(fd);
  return (reads / elapsed) * 1000;
}
