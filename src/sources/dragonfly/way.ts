import type { SwarmStream } from '../swarm.ts';
import type { Download } from './messages.ts';
import type { Judgement } from './verdict.ts';

/** One way to a dfdaemon: its gRPC service, or its proxy. */
export interface Way {
  /** Whether somebody may be there; it costs nothing. */
  there(): boolean;
  /** Finds out whether somebody is there. */
  look(): Promise<void>;
  /** Whether others have a task: `undefined` where that cannot be told soon. */
  stat(taskId: string): Promise<boolean | undefined>;
  /**
   * Sends for an object.
   * @param what for errors: `blob sha256:…`
   * @throws what `judge` understands; so does the stream
   */
  download(download: Download, what: string, signal: AbortSignal): Promise<SwarmStream>;
  judge(what: string, failure: unknown): Judgement;
  close(): void;
}
