/** A bucket of an object storage, and how to ask for its objects. Holds secrets. */
export interface Bucket {
  /** `s3`: Amazon's protocol, Signature Version 4. `oss`: Alibaba Cloud's own, signature version 1. */
  kind: 's3' | 'oss';
  scheme: 'http' | 'https';
  /** `host` or `host:port`, without the bucket's name. */
  endpoint: string;
  name: string;
  /** In front of each object's key, as it is. */
  prefix: string;
  /** S3 only; without it, the bucket says it. */
  region?: string;
  /** Without them, requests are not signed: a bucket that everybody may read. */
  keys?: AccessKeys;
}

export interface AccessKeys {
  id: string;
  secret: string;
  /** Of temporary keys (STS). */
  token?: string;
}

/** The path of a key in an address (S3 "UriEncode"): all but unreserved characters and slashes as `%XX`. */
export function encodeKey(key: string): string {
  return encodeURIComponent(key)
    .replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%2F', '/');
}
