/** Checks answers of a daemon against docs/openapi.yaml. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { PROJECT } from './fixtures.ts';
import type { HttpAnswer } from './http.ts';

interface Response {
  $ref?: string;
  content: Record<string, { schema: object }>;
}

interface Operation {
  operationId: string;
  responses: Record<string, Response>;
}

export interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { responses: Record<string, Response>; schemas: Record<string, object> };
}

export function readDocument(): Document {
  return parse(readFileSync(join(PROJECT, 'docs', 'openapi.yaml'), 'utf8'));
}

/** `GET /v1/images/{name}` and the like, as the document has them. */
export function operationsOf({ paths }: Document): Map<string, Operation> {
  const found = new Map<string, Operation>();
  for (const [path, item] of Object.entries(paths))
    for (const [method, operation] of Object.entries(item))
      if (method !== 'parameters') found.set(`${method.toUpperCase()} ${path}`, operation);
  return found;
}

/** Says of an answer whether the document has it so. Fields that the document does not have are wrong, too. */
export function conformance(document: Document): (operation: string, answer: HttpAnswer) => void {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  ajv.addSchema({ ...closed(document), $id: 'openapi' });
  const operations = operationsOf(document);

  return (name, { status, headers, body }) => {
    const operation = operations.get(name);
    assert.ok(operation, `docs/openapi.yaml has no ${name}`);
    const key = String(status) in operation.responses ? String(status) : 'default';
    let pointer = `/paths/${encode(name.slice(name.indexOf(' ') + 1))}/${name.split(' ')[0].toLowerCase()}/responses/${key}`;
    let response = operation.responses[key];
    assert.ok(response, `${name}: the document has no status ${status}: ${body}`);
    if (response.$ref !== undefined) {
      pointer = response.$ref.slice(1);
      response = document.components.responses[pointer.split('/').at(-1)!];
    }
    const type = headers['content-type']?.split(';')[0] ?? '';
    assert.ok(response.content[type], `${name}: the document has no ${type}`);
    const validate = ajv.getSchema(`openapi#${pointer}/content/${encode(type)}/schema`);
    assert.ok(validate, `${name}: no schema`);
    const values = type === 'application/x-ndjson' ? body.trim().split('\n').map(parseJson) : [];
    if (type === 'application/json') values.push(parseJson(body));
    if (type.startsWith('text/')) values.push(body);
    assert.ok(values.length > 0, `${name} says nothing`);
    for (const value of values)
      assert.ok(
        validate(value),
        `${name}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(value).slice(0, 2000)}`,
      );
  };
}

/** The same document, in which objects have no fields but their own. */
function closed<T>(value: T): T {
  if (Array.isArray(value)) return value.map(closed) as T;
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, closed(inner)]));
  const isObject = copy.type === 'object' && typeof copy.properties === 'object';
  return (isObject ? { additionalProperties: false, ...copy } : copy) as T;
}

function parseJson(text: string): unknown {
  return JSON.parse(text);
}

function encode(part: string): string {
  return encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'));
}
