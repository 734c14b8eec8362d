import { capturedCredentials, registryOptions } from '../daemon/registry-options.ts';
import { createImageOpener, type OpenedImage } from '../mount/open.ts';
import { createThreadPool } from '../threads/pool.ts';
import type { Context } from './context.ts';
import { progressView } from './progress.ts';
import { canonicalReference } from './reference.ts';

export type { OpenedImage };

/**
 * Reads an image's manifest and bootstrap in this process, without a daemon: every byte is verified, no data is fetched.
 * @param describe the configuration of a model is read as well
 * @throws NymphError `unsupported` if the image cannot be mounted lazily
 */
export async function openImage(
  context: Context,
  reference: string,
  platform?: string,
  describe = false,
): Promise<OpenedImage> {
  const name = canonicalReference(reference);
  const signal = context.interruption();
  const view = progressView();
  const pool = createThreadPool(1);
  // Nothing is pulled here, so nothing is written.
  const captured = capturedCredentials(context.config, () => undefined);
  const opener = createImageOpener(
    { ...registryOptions(context.config), ...(captured ? { captured } : {}) },
    pool,
    false,
  );
  try {
    const found = await opener.resolve(name, platform, view.update, signal);
    return await found.open(view.update, signal, { describe });
  } finally {
    view.clear();
    await opener.close();
    await pool.close();
  }
}
