/** The types of `hub.wit`, for drivers in TypeScript. Types only: nothing of it is in the component. */

export interface Description {
  scheme: string;
  endpoint: string;
  redirects: string[];
  tokenHeaders: [name: string, value: string][];
}

export interface Request {
  path: string;
  accept?: string;
}

export interface Answer {
  headers: [name: string, value: string][];
  body: string;
}

export interface File {
  path: string;
  /** QuickJS takes a number for `u64`; there is no more than 2^53 - 1 to say. */
  size: number;
  digest?: { tag: 'sha256' | 'git'; val: string };
  location: string;
  executable: boolean;
}

export interface Step {
  revision?: string;
  files: File[];
  next?: Request;
}

/** Is thrown, as `{ tag, val }`: the error of a `result`. */
export interface Problem {
  tag: 'reference' | 'not-found' | 'denied' | 'answer';
  val: string;
}
