import { NymphError } from '../errors.ts';
import type { Context } from './context.ts';
import type { OpenedImage } from './opened-image.ts';
export async function openImage(_context: Context, _reference: string, _platform?: string): Promise<OpenedImage> {
  throw new NymphError('internal', 'not wired');
}
