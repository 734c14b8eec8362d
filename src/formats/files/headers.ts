/** Where readers of weight files look first: what is worth to be there before they come. Offsets and sizes in bytes. */

export interface FileRange {
  offset: number;
  length: number;
}

/** A header that claims more is not believed: the format's own limit is 100 MB (safetensors), and real ones have a few MB. */
const MOST_HEADER = 32 << 20;
/** The metadata of GGUF hold the tokenizer; they have no size of their own. */
const GGUF_HEADER = 8 << 20;
/** The directory of a zip is at its end, behind all members; PyTorch's has some 100 bytes for each tensor. */
const ZIP_DIRECTORY = 1 << 20;

/**
 * What else a reader needs before the first tensor, by the first bytes of a file: safetensors (8 bytes of size, then
 * JSON), GGUF, zip archives of PyTorch. Of ONNX and others the beginning is all.
 * @param head the first bytes, at least 16 where the file has them @param size of the file
 */
export function headerRanges(path: string, head: Uint8Array, size: number): FileRange[] {
  const view = Buffer.from(head.buffer, head.byteOffset, head.length);
  const within = (offset: number, length: number): FileRange[] =>
    offset < size ? [{ offset, length: Math.min(length, size - offset) }] : [];
  if (path.endsWith('.safetensors') && view.length >= 9 && view[8] === 0x7b) {
    const length = Number(view.readBigUInt64LE(0));
    return length <= MOST_HEADER ? within(0, 8 + length) : [];
  }
  if (view.toString('latin1', 0, 4) === 'GGUF') return within(0, GGUF_HEADER);
  if (view.toString('latin1', 0, 4) === 'PK\x03\x04') return within(Math.max(0, size - ZIP_DIRECTORY), ZIP_DIRECTORY);
  return [];
}

/**
 * Files in the order in which a model is loaded: as the safetensors index names them, tensor by tensor.
 * @param text of `*.safetensors.index.json`: untrusted; what is wrong in it orders nothing
 * @returns names beside the index, each once
 */
export function indexOrder(text: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return [];
  }
  const map = (value as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null) return [];
  return [...new Set(Object.values(map).filter((name) => typeof name === 'string'))];
}
