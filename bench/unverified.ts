/**
 * Preloaded into a daemon of the bench alone (`node --import`): chunks are taken for right without a look at their
 * digests. It shows what verifying costs; nymph itself has no such switch.
 */
import { registerHooks } from 'node:module';

const CHECK = 'digestEquals(digests, index, digestOf(digestAlgorithm, bytes))';

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!/\/fetch\/store-job\.(?:js|ts)$/.test(url)) return loaded;
    const source = String(loaded.source);
    if (!source.includes(CHECK)) throw new Error(`${url} does not check digests where the bench expects it`);
    return { ...loaded, source: source.replace(CHECK, 'true') };
  },
});
