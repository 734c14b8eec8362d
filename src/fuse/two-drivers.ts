import type { Driver, DriverStatistics, FileSystem } from './driver.ts';

/** Two drivers of one kind, on two connections, that serve the same files and trees. */
export interface TwoDrivers extends Driver {
  /** Begins to answer on the second connection; after `start`. */
  startSecond(): Promise<void>;
}

/** @param isSecondOpen true if the second is to answer from the start; otherwise it waits for `startSecond` */
export function twoDrivers(first: Driver, second: Driver, isSecondOpen: boolean): TwoDrivers {
  let fileSystem: FileSystem;

  return {
    name: first.name,
    async start(served) {
      fileSystem = served;
      await Promise.all([first.start(served), isSecondOpen && second.start(served)]);
    },
    startSecond: () => second.start(fileSystem),
    register(file) {
      first.register(file);
      second.register(file);
    },
    async unregister(ino) {
      await Promise.all([first.unregister(ino), second.unregister(ino)]);
    },
    registerTree(tree) {
      first.registerTree(tree);
      second.registerTree(tree);
    },
    async unregisterTree(tree) {
      await Promise.all([first.unregisterTree(tree), second.unregisterTree(tree)]);
    },
    statistics: () => sum(first.statistics(), second.statistics()),
    async stop() {
      await Promise.all([first.stop(), second.stop()]);
    },
  };
}

function sum(a: DriverStatistics, b: DriverStatistics): DriverStatistics {
  const requests = { ...a.requests };
  for (const [name, count] of Object.entries(b.requests)) requests[name] = (requests[name] ?? 0) + count;
  return {
    requests,
    hits: a.hits + b.hits,
    hitBytes: a.hitBytes + b.hitBytes,
    faults: a.faults + b.faults,
    waiting: a.waiting + b.waiting,
  };
}
