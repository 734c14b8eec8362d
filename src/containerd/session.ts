import { randomBytes } from 'node:crypto';
import type { Circumstances, Connection, Service } from './connection.ts';

/** Calls of one piece of work in a namespace; what they make is held by a lease until the work is done. */
export interface Session {
  readonly connection: Connection;
  readonly signal: AbortSignal;
  /** For calls that are made otherwise. */
  readonly circumstances: Circumstances;
  call<Answer>(service: Service, method: string, request: object): Promise<Answer>;
  /** The same, also after an interruption. */
  callAnyway<Answer>(service: Service, method: string, request: object): Promise<Answer>;
  /** The same session, whose calls end with one more signal. */
  until(signal: AbortSignal): Session;
  /** The lease also holds this snapshot, whether it is there yet or not. */
  holdSnapshot(snapshotter: string, name: string): Promise<void>;
}

/** As containerd's own client has it: a pull over a thin line may take hours. Counts only if the process is killed. */
const LEASE_HOURS = 24;
/** For what is to be cleaned up, ms: containerd collects garbage meanwhile. */
const CLEAN_UP_TIMEOUT = 60_000;

/**
 * Does work under a lease. If it fails, containerd has collected what it made before this rejects; if that fails too, the
 * lease ends by itself.
 * @param options `collectLater`: for work that a call of containerd's waits for. Its collector may wait for the end of
 * that call, so nobody in it may wait for the collector
 */
export async function withSession<Result>(
  connection: Connection,
  namespace: string,
  signal: AbortSignal,
  work: (session: Session) => Promise<Result>,
  { collectLater = false } = {},
): Promise<Result> {
  const lease = `nymph-${randomBytes(12).toString('hex')}`;
  const expires = new Date(Date.now() + LEASE_HOURS * 3_600_000).toISOString();
  const deleteLease = (sync: boolean) =>
    connection.call('leases', 'Delete', { id: lease, sync }, { namespace, timeout: CLEAN_UP_TIMEOUT });
  const session = createSession(connection, namespace, lease, signal);
  try {
    await connection.call(
      'leases',
      'Create',
      { id: lease, labels: { 'containerd.io/gc.expire': expires } },
      { namespace, signal },
    );
    const result = await work(session);
    await deleteLease(false);
    return result;
  } catch (error) {
    // What failed first counts. Where containerd does not answer, the lease ends by itself.
    await deleteLease(!collectLater).catch(() => {});
    throw error;
  }
}

function createSession(connection: Connection, namespace: string, lease: string, signal: AbortSignal): Session {
  const circumstances = { namespace, lease, signal };
  return {
    connection,
    signal,
    circumstances,
    call: (service, method, request) => connection.call(service, method, request, circumstances),
    callAnyway: (service, method, request) =>
      connection.call(service, method, request, { namespace, lease, timeout: CLEAN_UP_TIMEOUT }),
    until: (ending) => createSession(connection, namespace, lease, AbortSignal.any([signal, ending])),
    async holdSnapshot(snapshotter, name) {
      const resource = { type: `snapshots/${snapshotter}`, id: name };
      await connection.call('leases', 'AddResource', { id: lease, resource }, circumstances);
    },
  };
}
