/**
 * The thread of one driver: loads it, passes calls on, checks what it says. It may hang or die: `run.ts` ends it then.
 * Synchronous calls are right here: nobody waits for this thread itself.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { NymphError } from '../errors.ts';
import { checkDescription, checkRequest, lied } from './check.ts';
import { MAX_PAGES } from './limits.ts';
import { createListing, type ListingBuilder } from './listing.ts';
import type { DriverCall, DriverData, DriverReply } from './messages.ts';
import type { DriverRequest } from './plugin.ts';
import { problemError } from './problem.ts';

/** The component's exports; what they give back is not believed. */
interface Driver {
  describe(): unknown;
  start(reference: string): unknown;
  next(answer: { headers: [string, string][]; body: string }): unknown;
}

type Instantiate = (
  getModule: (file: string) => WebAssembly.Module,
  imports: Record<string, never>,
  instantiate: (module: WebAssembly.Module, imports: WebAssembly.Imports) => WebAssembly.Instance,
) => Promise<Driver>;

const port = parentPort!;
const { directory, glue, modules } = workerData as DriverData;
let name = 'the driver';
let listing: ListingBuilder | undefined;

const driver = await load().catch((error) => {
  answer(failure(error));
  throw error;
});
port.on('message', (call: DriverCall) => answer(perform(call)));
answer({ reply: 'ready' });

/** Modules are compiled once each, and their instances counted: together they have no more memory than a driver may. */
async function load(): Promise<Driver> {
  const pagesOf = new Map<WebAssembly.Module, number>();
  let pages = 0;
  const { instantiate } = (await import(pathToFileURL(join(directory, glue)).href)) as { instantiate: Instantiate };
  return instantiate(
    (file) => {
      const module = new WebAssembly.Module(readFileSync(join(directory, file)));
      pagesOf.set(module, modules.find((known) => known.file === file)?.pages ?? Number.POSITIVE_INFINITY);
      return module;
    },
    {},
    (module, imports) => {
      // Modules that the JavaScript makes up itself have no memory.
      pages += pagesOf.get(module) ?? 0;
      if (pages > MAX_PAGES) throw new NymphError('unsupported', 'the plugin wants more memory than it may have');
      return new WebAssembly.Instance(module, imports);
    },
  );
}

function perform(call: DriverCall): DriverReply {
  try {
    if (call.call === 'describe') return { reply: 'description', description: checkDescription(driver.describe()) };
    if (call.call === 'start') {
      name = `the driver of ${call.scheme}://`;
      listing = createListing(name, call.scheme);
      return { reply: 'ask', request: checkRequest(name, driver.start(call.reference)) };
    }
    const request = next(call.answer);
    return request === undefined ? { reply: 'listing', listing: listing!.finish() } : { reply: 'ask', request };
  } catch (error) {
    return failure(error);
  }
}

function next({ headers, body }: Extract<DriverCall, { call: 'next' }>['answer']): DriverRequest | undefined {
  const text = new TextDecoder().decode(body);
  const step = driver.next({ headers: headers.map(([header, value]) => [header, value]), body: text });
  return listing!.add(step);
}

/** A component says no by an error with a `payload`; all else that it throws is a trap, or a fault of its engine. */
function failure(error: unknown): DriverReply {
  if (error instanceof NymphError) return toReply(error);
  const payload = (error as { payload?: unknown } | undefined)?.payload;
  if (payload !== undefined) return toReply(problemError(name, payload));
  const why = String((error as Error | undefined)?.message ?? error).slice(0, 200);
  return toReply(lied(name, 'it', undefined, `broke down: ${why}`));
}

function toReply({ code, message, hint }: NymphError): DriverReply {
  return { reply: 'failed', code, message, ...(hint === undefined ? {} : { hint }) };
}

function answer(reply: DriverReply): void {
  port.postMessage(reply, reply.reply === 'listing' ? [reply.listing.bytes.buffer] : []);
}
