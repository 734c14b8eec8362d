/** The first byte of a gRPC message says whether it is compressed; then comes its length, big endian. */
const PREFIX = 5;
/** A request to pull an image is far smaller. */
const MAX_MESSAGE = 1024 * 1024;

/**
 * Collects the one message of a unary gRPC call from the pieces of its body, which pass by.
 * @param done gets the message, or why there is none; once
 */
export function messageCollector(
  done: (message: Buffer | undefined, problem?: string) => void,
): (piece: Buffer) => void {
  let pieces: Buffer[] | undefined = [];
  let size = 0;
  const finish = (message: Buffer | undefined, problem?: string) => {
    pieces = undefined;
    done(message, problem);
  };
  return (piece) => {
    if (!pieces) return;
    pieces.push(piece);
    size += piece.length;
    if (size < PREFIX) return;
    const body = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
    pieces = [body];
    const length = body.readUInt32BE(1);
    if (body[0] !== 0) finish(undefined, 'it is compressed');
    else if (length > MAX_MESSAGE) finish(undefined, 'it is too large');
    else if (size >= PREFIX + length) finish(body.subarray(PREFIX, PREFIX + length));
  };
}
