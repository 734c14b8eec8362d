import type { TraceInfo } from '../../daemon/api.ts';
import { registryOptions } from '../../daemon/registry-options.ts';
import { NymphError } from '../../errors.ts';
import { isDigest } from '../../sources/digest.ts';
import { openRepository, openTarget } from '../../sources/open.ts';
import { parseReference } from '../../sources/reference.ts';
import { createRegistryNetwork } from '../../sources/registry/network.ts';
import { putTrace } from '../../sources/trace-artifact.ts';
import type { Context } from '../context.ts';
import { canonicalReference } from '../reference.ts';
import { printable } from '../text.ts';

/** `nymph trace`: prints what starts of an image read first, or puts it beside the image for other nodes. */
export async function run(context: Context, name: string, options: { push?: boolean }): Promise<undefined> {
  const client = await context.daemon();
  const trace = await client.trace(isDigest(name) ? name : canonicalReference(name));
  if (options.push !== true) {
    context.print(trace, () => trace.files.map(printable).join('\n'));
    return;
  }
  if (trace.trace === '')
    throw new NymphError('not-found', `no start of ${trace.reference} was traced here`, {
      hint: 'Mount it, run what it is for, and push then: what is read in the first 30 s counts.',
    });
  const pushed = await push(context, trace);
  context.print(
    { ...trace, pushed },
    () => `pushed what starts of ${printable(trace.reference)} read first (${trace.files.length} files) as ${pushed}`,
  );
}

/** @returns digest of the manifest that holds the trace */
async function push(context: Context, { reference, digest, trace }: TraceInfo): Promise<string> {
  const place = parseReference(reference);
  if (place.kind !== 'registry' && place.kind !== 'layout')
    throw new NymphError('usage', `${reference} is neither in a registry nor in an OCI layout`);
  const network = createRegistryNetwork(registryOptions(context.config));
  try {
    const signal = context.interruption();
    const { descriptor } = await openRepository(place, { network }).manifest(digest as `sha256:${string}`, signal);
    return await putTrace(openTarget(place, network), descriptor, trace, signal);
  } finally {
    await network.close();
  }
}
