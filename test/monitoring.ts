/** What docs/ has for Prometheus and Grafana: which metrics, and which of their labels, it asks for. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { PROJECT } from './fixtures.ts';

export const ALERTS = join(PROJECT, 'docs', 'prometheus', 'nymph-alerts.yml');
export const ALERTS_TEST = join(PROJECT, 'docs', 'prometheus', 'nymph-alerts-test.yml');

export interface Panel {
  type: string;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string }[];
}

export function panels(): Panel[] {
  return JSON.parse(readFileSync(join(PROJECT, 'docs', 'grafana', 'nymph.json'), 'utf8')).panels;
}

export function alerts(): { alert: string; expr: string; annotations: Record<string, string> }[] {
  const { groups } = parse(readFileSync(ALERTS, 'utf8')) as { groups: { rules: ReturnType<typeof alerts> }[] };
  return groups.flatMap(({ rules }) => rules);
}

/** Every query of dashboard and alerts. */
export function queries(): string[] {
  return [
    ...panels().flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
    ...alerts().map(({ expr }) => expr),
  ];
}

/** Metrics of an expression with the labels by which it chooses; those of Prometheus itself are left out. */
export function metricsIn(expression: string): { name: string; labels: string[] }[] {
  const found = expression.matchAll(/\b((?:nymph|process|nodejs)_[a-z_]+)(?:\{([^}]*)\})?/g);
  return Array.from(found, ([, name, matchers = '']) => ({
    name,
    labels: Array.from(matchers.matchAll(/([a-z_]+)\s*[=!]/g), ([, label]) => label).filter(
      (label) => label !== 'instance' && label !== 'job',
    ),
  }));
}

/** Labels by which an expression groups: they must be there, too, or all falls into one. */
export function groupings(expression: string): string[] {
  const lists = Array.from(expression.matchAll(/\bby \(([^)]*)\)/g), ([, list]) => list.split(','));
  return lists.flat().map((label) => label.trim());
}
