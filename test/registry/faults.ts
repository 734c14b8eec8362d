/**
 * What a test registry does wrong. All fields may be changed while it runs. A fault with a `times` is used up: after so
 * many requests it is gone. `times` left out means for ever.
 */
export interface Faults {
  /** Every request must bring a token (`Bearer`) or a password (`Basic`). */
  auth?: TokenAuth | BasicAuth;
  /** Milliseconds before the headers of each answer. */
  latency?: number;
  /** Bytes a second of each body. */
  bandwidth?: number;
  /** Blobs are sent by a second server ("object storage"), which refuses requests that bring `Authorization`. */
  redirect?: Redirect;
  /** Answers of this status instead of the true one, with an optional `Retry-After`. */
  status?: Times & Where & { code: number; retryAfter?: string };
  /** What goes wrong with blobs' bodies and headers. */
  blob?: BlobFault & Times;
  /** What goes wrong with content that is sent to it. */
  upload?: UploadFault & Times;
  /** `absent`: it does not know the referrers API. */
  referrers?: 'absent';
  /** Headers that are added to or changed in answers to blob requests. */
  headers?: Record<string, string>;
}

export interface Times {
  times?: number;
}

export interface Where {
  /** Only for these requests; all by default. */
  on?: 'manifest' | 'blob' | 'token';
}

export interface TokenAuth {
  kind: 'token';
  /** Without one, anonymous tokens are given. */
  username?: string;
  password?: string;
  /** POST with this refresh token is needed. */
  identityToken?: string;
  /** A header that is wrong is answered with 403 and no challenge, as ECR does. */
  forbids?: boolean;
  /** Seconds that a token lives; 300 by default. Answered as `expires_in`. */
  lifetime?: number;
}

export interface BasicAuth {
  kind: 'basic';
  username: string;
  password: string;
  forbids?: boolean;
}

export interface Redirect {
  /** 307 by default. */
  status?: 301 | 302 | 303 | 307 | 308;
  /** Requests that one signed address serves; then it answers 403. */
  uses?: number;
}

export type BlobFault =
  /** Ranges are ignored: 200 with the whole object. */
  | { kind: 'no-ranges' }
  /** Another range than the one asked for, with headers that say so. */
  | { kind: 'other-range' }
  /** 206 without `Content-Range`. */
  | { kind: 'no-content-range' }
  /** One bit of the body is wrong. */
  | { kind: 'bit-flip' }
  /** The body ends after so many bytes, and the connection with it. */
  | { kind: 'cut'; after: number }
  /** The body is short, and says so in `Content-Length`. */
  | { kind: 'short'; by: number }
  /** So many bytes too many; chunked, so that no header tells. */
  | { kind: 'extra'; by: number }
  /** The body stops after so many bytes, and the connection stays. */
  | { kind: 'stall'; after: number }
  /** The connection is cut before any answer. */
  | { kind: 'hang-up' }
  /** `Content-Encoding: gzip`. */
  | { kind: 'gzip' };

export type UploadFault =
  /** The connection is cut after so many bytes of a request; what came until then is kept, or the upload is forgotten. */
  | { kind: 'cut'; after: number; keeps: boolean }
  /** Requests of more bytes are answered with 413. */
  | { kind: 'too-large'; most: number };

/** What a registry did. Numbers since its start; a test may set them back. */
export interface Stats {
  requests: number;
  manifests: number;
  blobs: number;
  tokens: number;
  /** Answers to blob requests of the second server. */
  storage: number;
  /** Requests that object storage refused because they brought `Authorization`. */
  leaked: number;
  unauthorized: number;
  /** Body bytes of blobs that were handed to the socket. */
  blobBytes: number;
  /** Uploads that were begun, and bytes of content that came. */
  uploads: number;
  uploadBytes: number;
  /** Connections that are open now, and those that were ever. */
  openConnections: number;
  connections: number;
  /** Blob bodies that are being sent now. */
  sending: number;
  /** The last 1,000 requests. */
  log: { method: string; url: string; headers: Record<string, string | string[] | undefined> }[];
}

export function emptyStats(): Stats {
  return {
    requests: 0,
    manifests: 0,
    blobs: 0,
    tokens: 0,
    storage: 0,
    leaked: 0,
    unauthorized: 0,
    blobBytes: 0,
    uploads: 0,
    uploadBytes: 0,
    openConnections: 0,
    connections: 0,
    sending: 0,
    log: [],
  };
}

/** Takes one use of a fault; `undefined` if it is not set or used up. */
export function useFault<T extends Times>(fault: T | undefined): T | undefined {
  if (!fault) return undefined;
  if (fault.times === undefined) return fault;
  if (fault.times <= 0) return undefined;
  fault.times--;
  return fault;
}
