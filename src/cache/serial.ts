/** Runs a task after all earlier tasks with the same name have ended, however they ended. */
export type Serial = <Result>(name: string, task: () => Promise<Result>) => Promise<Result>;

export interface SerialTasks {
  run: Serial;
  /** Resolves when no task is under way. */
  idle(): Promise<void>;
}

export function createSerialTasks(): SerialTasks {
  const last = new Map<string, Promise<unknown>>();
  return {
    run(name, task) {
      const result = (last.get(name) ?? Promise.resolve()).then(task);
      const settled = result
        .catch(() => {}) // the caller of `run` gets the error; who comes next does not care
        .then(() => {
          if (last.get(name) === settled) last.delete(name);
        });
      last.set(name, settled);
      return result;
    },
    async idle() {
      while (last.size > 0) await Promise.all(last.values());
    },
  };
}
