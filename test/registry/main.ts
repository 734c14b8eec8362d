/**
 * Serves OCI layouts as a registry, for trials by hand:
 *
 *   node test/registry/main.ts --layout NAME=DIR … [--port N] [--address A] [--latency MS] [--bandwidth BYTES/S] [--redirect]
 *
 * `--layout DIR` serves a layout under the name of its folder.
 */
import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startRegistry } from './registry.ts';

const { values } = parseArgs({
  options: {
    layout: { type: 'string', multiple: true, default: [] },
    port: { type: 'string', default: '5000' },
    address: { type: 'string', default: '127.0.0.1' },
    latency: { type: 'string' },
    bandwidth: { type: 'string' },
    redirect: { type: 'boolean', default: false },
  },
});

if (values.layout.length === 0) {
  console.error('Name at least one layout: --layout DIR or --layout NAME=DIR');
  process.exit(2);
}

const layouts = Object.fromEntries(
  values.layout.map((text) => {
    const equals = text.indexOf('=');
    const path = resolve(text.slice(equals + 1));
    return [equals < 0 ? basename(path) : text.slice(0, equals), path];
  }),
);
const registry = await startRegistry({
  layouts,
  port: Number(values.port),
  address: values.address,
  faults: {
    ...(values.latency ? { latency: Number(values.latency) } : {}),
    ...(values.bandwidth ? { bandwidth: Number(values.bandwidth) } : {}),
    ...(values.redirect ? { redirect: {} } : {}),
  },
});
for (const name of Object.keys(layouts)) console.log(`${registry.host}/${name}`);

const stop = async () => {
  await registry.close();
  const { requests, blobs, blobBytes } = registry.stats;
  console.log(`${requests} requests, ${blobs} for blobs, ${blobBytes} bytes of blobs`);
};
process.once('SIGINT', stop);
process.once('SIGTERM', stop);
