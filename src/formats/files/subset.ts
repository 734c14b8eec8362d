import { posix } from 'node:path';
import { corrupt, NymphError } from '../../errors.ts';
import type { FileList, FileNode, LayerPlan, StoredObject } from '../../image/files.ts';

/** What files of a model are for, in the words of people. */
export const FILE_KINDS = ['config', 'tokenizer', 'weights', 'doc', 'code', 'dataset'] as const;
export type FileKind = (typeof FILE_KINDS)[number];

/** A kind of a layer in ModelPack (model-spec "Layer Media Types"), and what such a layer may hold. */
const OF_LAYER: Record<string, readonly FileKind[]> = {
  weight: ['weights'],
  'weight.config': ['config', 'tokenizer', 'weights'],
  doc: ['doc'],
  code: ['code'],
  dataset: ['dataset'],
};

/** Names that count more than the kind of a layer: ModelPack has tokenizers and indexes of weights among the configuration. */
const TOKENIZER =
  /^(tokenizer.*|vocab\..*|merges\.txt|special_tokens_map\.json|added_tokens\.json|chat_template\..*|.*\.(tiktoken|spm)|(spiece|sentencepiece.*|tokenizer)\.model)$/;
const WEIGHTS_INDEX = /\.index\.json$/;
const WEIGHTS =
  /\.(safetensors|gguf|ggml|bin|pt|pth|ckpt|onnx|onnx_data|h5|keras|msgpack|npz|pb|tflite|mlmodel|engine|pdparams|params)$/;
const DATASET = /\.(parquet|arrow|csv|tsv|jsonl|tfrecord|feather|lance)$/;
const CODE = /\.(py|sh|ipynb|js|ts|c|cc|cpp|cu|h|hpp|rs|go|java|jinja|jinja2)$/;
const DOC = /^(readme|license|licence|notice|changelog|use_policy)|\.(md|rst|pdf|txt|png|jpe?g|gif|svg)$/;
const CONFIG = /\.(json|ya?ml|toml|cfg|ini|conf|xml|config)$/;

/** True for what stands for paths, and is no kind. */
export function isPattern(word: string): boolean {
  return /[*?[\]{}./]/.test(word);
}

/**
 * What a file is for: by its name, and where that says nothing by the kind of its layer.
 * @param kind as ModelPack has it
 */
export function kindsOfFile(path: string, kind?: string): readonly FileKind[] {
  const name = posix.basename(path).toLowerCase();
  const known = kind === undefined ? undefined : OF_LAYER[kind];
  if (TOKENIZER.test(name)) return ['tokenizer'];
  if (WEIGHTS_INDEX.test(name)) return ['config', 'weights'];
  if (known !== undefined && kind !== 'weight') return [known[0]];
  if (WEIGHTS.test(name)) return ['weights'];
  if (CONFIG.test(name)) return ['config'];
  if (known !== undefined) return known;
  if (DATASET.test(name)) return ['dataset'];
  if (CODE.test(name)) return ['code'];
  return DOC.test(name) ? ['doc'] : [];
}

/** @param words kinds, and patterns as of shells: of names, or of whole paths where there is a `/` */
export function isChosen(words: readonly string[], { path, kind }: Pick<FileNode, 'path' | 'kind'>): boolean {
  const kinds: readonly string[] = kindsOfFile(path, kind);
  return words.some((word) => {
    if (!isPattern(word)) return kinds.includes(word);
    return posix.matchesGlob(word.includes('/') ? path : posix.basename(path), word);
  });
}

/** False for a layer of which no file can be chosen, whatever their names are. */
export function mayHoldChosen(words: readonly string[], { kind, holds }: LayerPlan): boolean {
  if (holds.kind !== 'tar') return isChosen(words, { path: holds.node.path, kind });
  return kind === undefined || kind === 'weight' || words.some((word) => isPattern(word) || mayBe(kind, word));
}

function mayBe(kind: string, word: string): boolean {
  const kinds: readonly string[] | undefined = OF_LAYER[kind];
  // Tokenizers and indexes are told by their names, in any layer.
  return kinds === undefined || kinds.includes(word) || ['tokenizer', 'weights', 'config'].includes(word);
}

/**
 * The files of a list that are chosen, and the objects that they are in. Links and directories stay where they lead to
 * something.
 * @throws NymphError `not-found` if there are none
 */
export function chosenFiles(list: FileList, words: readonly string[], name: string): FileList {
  const files = list.files.filter((file) => file.content.kind === 'file' && isChosen(words, file));
  if (files.length === 0)
    throw new NymphError('not-found', `${name} has no files of the subset ${words.join(',')}`, {
      hint: `\`nymph ls --files ${name}\` lists what it has.`,
    });
  const paths = new Set(files.map(({ path }) => path));
  const links = list.files.filter(
    ({ path, content }) => content.kind === 'symlink' && paths.has(posix.join(posix.dirname(path), content.target)),
  );
  const objects: StoredObject[] = [];
  const places = new Map<number, number>();
  const objectAt = (before: number): number => {
    if (before < 0) return -1;
    const known = places.get(before);
    if (known !== undefined) return known;
    if (list.objects[before] === undefined) throw corrupt(name, 'object', before, 'is not there');
    places.set(before, objects.length);
    return objects.push(list.objects[before]) - 1;
  };
  const moved = files.map((file): FileNode => {
    const { content } = file;
    return content.kind === 'file' ? { ...file, content: { ...content, object: objectAt(content.object) } } : file;
  });
  return { ...list, files: [...moved, ...links], objects };
}
