/**
 * The text format in which Prometheus reads metrics, version 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
 */
export interface Metric {
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  samples: readonly Sample[];
}

export interface Sample {
  /** Behind the metric's name: `_bucket`, `_sum`, `_count` of a histogram. */
  suffix?: string;
  labels?: Labels;
  value: number;
}

export type Labels = Readonly<Record<string, string>>;

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export function formatMetrics(metrics: readonly Metric[]): string {
  return metrics
    .filter(({ samples }) => samples.length > 0)
    .map((metric) => {
      const lines = metric.samples.map(
        ({ suffix = '', labels = {}, value }) => `${metric.name}${suffix}${formatLabels(labels)} ${formatValue(value)}`,
      );
      return `# HELP ${metric.name} ${escapeText(metric.help)}\n# TYPE ${metric.name} ${metric.type}\n${lines.join('\n')}\n`;
    })
    .join('');
}

/**
 * The samples of a histogram.
 * @param bounds upper, ascending, inclusive. @param counts of what is in each and not in the one before; the last: above all
 */
export function histogram(
  bounds: readonly number[],
  counts: readonly number[],
  sum: number,
  labels: Labels = {},
): Sample[] {
  let total = 0;
  const buckets = counts.map((count, i) => {
    total += count;
    const le = i < bounds.length ? formatValue(bounds[i]) : '+Inf';
    return { suffix: '_bucket', labels: { ...labels, le }, value: total };
  });
  return [...buckets, { suffix: '_sum', labels, value: sum }, { suffix: '_count', labels, value: total }];
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeText(value).replaceAll('"', '\\"')}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escapeText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function formatValue(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}
