/** What a model's configuration tells of it to people; absent where it does not say. */
export interface ModelDescription {
  name?: string;
  title?: string;
  description?: string;
  version?: string;
  vendor?: string;
  authors?: string[];
  family?: string;
  architecture?: string;
  /** Of its weights: safetensors, gguf, … */
  format?: string;
  /** As people write it: `0.5b`. */
  parameters?: string;
  precision?: string;
  quantization?: string;
  /** SPDX identifiers, mostly. */
  licenses?: string[];
  source?: string;
  created?: string;
  input?: string[];
  output?: string[];
}

/** Nothing that a person reads is longer. */
const MOST_TEXT = 1000;
const MOST_TEXTS = 32;

type Fields = Record<string, unknown>;

/**
 * Reads the configuration of a ModelPack artifact (model-spec `schema/config-schema.json`, v0.0.1 to v0.0.7 and later, whose
 * names differ), or the Kitfile that is that of a ModelKit. A hint only: what is wrong in it is left out.
 */
export function describeModel(bytes: Uint8Array): ModelDescription {
  let document: Fields;
  try {
    document = fieldsOf(JSON.parse(Buffer.from(bytes).toString()));
  } catch {
    // Of some artifacts it is no JSON at all.
    return {};
  }
  return compact(document.package !== undefined ? ofKitfile(document) : ofModelPack(document));
}

function ofModelPack(document: Fields): ModelDescription {
  const about = fieldsOf(document.descriptor);
  const config = fieldsOf(document.config);
  const capabilities = fieldsOf(config.capabilities);
  return {
    name: text(about.name),
    title: text(about.title),
    description: text(about.description),
    version: text(about.version),
    vendor: text(about.vendor),
    authors: texts(about.authors),
    family: text(about.family),
    architecture: text(config.architecture),
    format: text(config.format),
    // v0.0.1; and up to v0.0.3 a slip of the pen.
    parameters: text(config.paramSize ?? config.parameterSize),
    precision: text(config.precision),
    quantization: text(config.quantization ?? config.puantization),
    licenses: texts(about.licenses),
    source: text(about.sourceURL),
    created: text(about.createdAt),
    input: texts(capabilities.inputTypes ?? capabilities.input_types),
    output: texts(capabilities.outputTypes ?? capabilities.output_types),
  };
}

function ofKitfile(document: Fields): ModelDescription {
  const about = fieldsOf(document.package);
  const model = fieldsOf(document.model);
  const license = text(model.license ?? about.license);
  return {
    name: text(model.name ?? about.name),
    description: text(model.description ?? about.description),
    version: text(model.version ?? about.version),
    authors: texts(about.authors),
    format: text(model.format ?? model.framework),
    ...(license !== undefined && { licenses: [license] }),
  };
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value.slice(0, MOST_TEXT) : undefined;
}

function texts(value: unknown): string[] | undefined {
  const list = Array.isArray(value) ? value.slice(0, MOST_TEXTS).flatMap((entry) => text(entry) ?? []) : [];
  return list.length === 0 ? undefined : list;
}

function compact(description: ModelDescription): ModelDescription {
  return Object.fromEntries(Object.entries(description).filter(([, value]) => value !== undefined));
}
