import { NymphError } from '../../../errors.ts';

const MIN_CHUNK_SIZE = 0x1000;
const MAX_CHUNK_SIZE = 0x1000000;

/**
 * Checks what an image is cut into, bytes. @param batchSize 0 for no batches
 * @throws NymphError `usage`
 */
export function checkSizes(chunkSize: number, batchSize: number): void {
  const isPower = (value: number): boolean => Number.isInteger(Math.log2(value));
  if (!isPower(chunkSize) || chunkSize < MIN_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE)
    throw new NymphError('usage', `a chunk size of ${chunkSize} bytes: must be a power of two from 4 KiB to 16 MiB`);
  if (batchSize === 0) return;
  if (!isPower(batchSize) || batchSize < MIN_CHUNK_SIZE || batchSize > chunkSize)
    throw new NymphError(
      'usage',
      `a batch size of ${batchSize} bytes: must be a power of two from 4 KiB to the chunk size`,
    );
  // Beside batches the stored size of a chunk has 24 bits.
  if (chunkSize === MAX_CHUNK_SIZE)
    throw new NymphError('usage', 'a batch size with chunks of 16 MiB, whose sizes do not fit beside it', {
      hint: 'Take chunks of 8 MiB, or no batches.',
    });
}
