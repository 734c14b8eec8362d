import type { Info, Kind, Labels, Mount } from './snapshotter.ts';

/** Messages of `proto/containerd/services/snapshots/v1` as proto-loader makes them (`grpc.ts`): absent fields have their default. */

export interface AnyRequest {
  /** Name of containerd's plugin that has our address. */
  snapshotter: string;
}

export interface KeyRequest extends AnyRequest {
  key: string;
}

export interface PrepareRequest extends KeyRequest {
  parent: string;
  labels: Labels;
}

export interface CommitRequest extends PrepareRequest {
  name: string;
}

export interface UpdateRequest extends AnyRequest {
  info: { name: string; labels: Labels } | null;
  updateMask: { paths: string[] } | null;
}

export interface ListRequest extends AnyRequest {
  filters: string[];
}

export interface MountsMessage {
  mounts: { type: string; source: string; options: string[] }[];
}

export interface InfoMessage {
  name: string;
  parent: string;
  kind: string;
  createdAt: Timestamp;
  updatedAt: Timestamp;
  labels: Labels;
}

interface Timestamp {
  seconds: number;
  nanos: number;
}

const KINDS: Readonly<Record<Kind, string>> = { view: 'VIEW', active: 'ACTIVE', committed: 'COMMITTED' };
const SECOND = 1_000_000_000n;

function timestamp(time: bigint): Timestamp {
  return { seconds: Number(time / SECOND), nanos: Number(time % SECOND) };
}

export function infoMessage({ name, parent, kind, created, updated, labels }: Info): InfoMessage {
  return { name, parent, kind: KINDS[kind], createdAt: timestamp(created), updatedAt: timestamp(updated), labels };
}

export function mountsMessage(mounts: Mount[]): MountsMessage {
  return { mounts };
}

/** containerd refuses messages above 16 MiB, and one snapshot may have many labels. */
const MOST_TEXT = 1 << 20;

/** Cuts a list where its text gets long. */
export function* messageBatches(infos: readonly Info[]): Generator<InfoMessage[]> {
  let batch: InfoMessage[] = [];
  let length = 0;
  for (const info of infos) {
    batch.push(infoMessage(info));
    for (const [key, value] of Object.entries(info.labels)) length += key.length + value.length;
    if (length < MOST_TEXT) continue;
    yield batch;
    batch = [];
    length = 0;
  }
  if (batch.length > 0) yield batch;
}
