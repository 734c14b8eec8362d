/** How files of weights are looked into. Offsets and sizes in bytes. */

export interface FileRange {
  offset: number;
  length: number;
}

/** Bytes of a file: as many as were asked for, or up to its end. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/** A header that claims more is not believed: real ones have a few MB, with the tokenizer of GGUF some 10. */
export const MOST_HEADER = 64 << 20;
