/**
 * Files in the order in which a model is loaded: as the index of its shards names them, tensor by tensor.
 * @param text of `*.index.json`: untrusted; what is wrong in it orders nothing
 * @returns names beside the index, each once
 */
export function indexOrder(text: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return [];
  }
  const map = (value as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null) return [];
  return [...new Set(Object.values(map).filter((name) => typeof name === 'string'))];
}
