/**
 * Work for another thread: a module whose `run` turns an input into an output. It is synchronous, short (a few ms; a
 * large bootstrap some 100), and knows nothing of threads; inputs and outputs are plain data.
 */
export interface Job<Input, Output> {
  /** URL of the module; never part of what travels. */
  readonly module: string;
  /** Types only. */
  readonly run?: JobFunction<Input, Output>;
}

export type JobFunction<Input, Output> = (input: Input) => JobResult<Output>;

export interface JobResult<Output> {
  output: Output;
  /** Buffers of the output that are handed over instead of copied. */
  transfer?: ArrayBuffer[];
}

/**
 * Names the job in a module beside the caller's.
 * @param caller `import.meta.url`. @param name the module's name without its ending, which is the caller's.
 */
export function jobBeside<Input, Output>(caller: string, name: string): Job<Input, Output> {
  return { module: new URL(`./${name}${caller.slice(-3)}`, caller).href };
}

/** What travels to a thread, and back. */
export interface JobRequest {
  module: string;
  input: unknown;
}

/** Asks a thread to load modules before their first job, and then to say that it is up: the first thing that it is told, and perhaps more later. */
export interface WarmRequest {
  modules: string[];
}

export type JobAnswer =
  /** The thread has loaded what it was asked to. From the first time on it takes jobs. */
  | { type: 'up' }
  | { type: 'done'; output: unknown }
  | { type: 'failed'; code: string; message: string; hint?: string; retryable: boolean };
