/** Messages of proto/dragonfly, as proto-loader gives them: a field that has its default value is absent. */

export interface Download {
  url: string;
  digest?: string;
  type: number;
  tag?: string;
  application?: string;
  priority: number;
  filteredQueryParams: readonly string[];
  requestHeader: Record<string, string>;
  pieceLength?: number;
  outputPath?: string;
  disableBackToSource: boolean;
  certificateChain: Uint8Array[];
  needPieceContent: boolean;
  forceHardLink?: boolean;
  enableTaskIdBasedBlobDigest: boolean;
}

/** `common.v2.TrafficType` */
export const TRAFFIC = { origin: 0, peer: 1, local: 2 } as const;

export interface PieceMessage {
  number?: number;
  parentId?: string;
  offset?: number;
  length?: number;
  digest?: string;
  content?: Uint8Array;
  trafficType?: number;
}

export interface DownloadAnswer {
  response?: 'downloadTaskStartedResponse' | 'downloadPieceFinishedResponse';
  taskId?: string;
  peerId?: string;
  downloadTaskStartedResponse?: { contentLength?: number; pieces?: PieceMessage[]; isFinished?: boolean };
  downloadPieceFinishedResponse?: { piece?: PieceMessage };
}

export interface Task {
  contentLength?: number;
  pieceCount?: number;
  state?: string;
  peerCount?: number;
  hasAvailablePeer?: boolean;
}

export interface LocalTask {
  contentLength?: number;
  finishedAt?: object;
}
