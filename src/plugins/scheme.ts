/** What stands before `://` in references that are no hub's, whatever is installed. */
const RESERVED = new Set(
  'http https ftp file registry docker docker-archive oci oci-archive containers-storage rafs nydusd ssh git s3 unix data'.split(
    ' ',
  ),
);

/** True for schemes that a driver can have. */
export function isScheme(text: string): boolean {
  return /^[a-z][a-z0-9-]{0,31}$/.test(text) && !RESERVED.has(text);
}
