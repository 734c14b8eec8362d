import { hostname } from 'node:os';
import type { FetchContext } from '../fetch/context.ts';
import { NO_TRACES, type StartTraces } from '../telemetry/starts.ts';
import type { Config } from './config.ts';

/**
 * Traces of starts, if a collector is set: in the configuration, or by OpenTelemetry's own variables
 * (https://opentelemetry.io/docs/specs/otel/protocol/exporter/), which also say what is sent along.
 */
export async function openTraces(
  { otlp }: Config['telemetry'],
  version: string,
  log: FetchContext['log'],
  environment: NodeJS.ProcessEnv = process.env,
): Promise<StartTraces> {
  const endpoint = otlp ?? (environment.OTEL_EXPORTER_OTLP_ENDPOINT || undefined);
  if (endpoint === undefined || environment.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return NO_TRACES;
  if (!/^https?:\/\//.test(endpoint) || !URL.canParse(endpoint)) {
    log('error', 'OTEL_EXPORTER_OTLP_ENDPOINT is no address of HTTP: nothing is traced', { endpoint });
    return NO_TRACES;
  }
  const [{ createOtlpTracer }, { createStartTraces }] = await Promise.all([
    import('../telemetry/otlp.ts'),
    import('../telemetry/start-traces.ts'),
  ]);
  const service = environment.OTEL_SERVICE_NAME;
  const resource = {
    'host.name': hostname(),
    ...pairsOf(environment.OTEL_RESOURCE_ATTRIBUTES),
    ...(service && { 'service.name': service }),
  };
  const headers = pairsOf(environment.OTEL_EXPORTER_OTLP_HEADERS);
  return createStartTraces(createOtlpTracer({ endpoint, headers, resource, version, log }));
}

/** `a=b,c=d`, values percent-encoded (W3C Baggage). */
function pairsOf(text = ''): Record<string, string> {
  const pairs = text.split(',').flatMap((item) => {
    const at = item.indexOf('=');
    return at < 1 ? [] : [[item.slice(0, at).trim(), decoded(item.slice(at + 1).trim())]];
  });
  return Object.fromEntries(pairs);
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    // A lone percent sign: meant as it stands.
    return value;
  }
}
