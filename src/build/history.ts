/**
 * The history of a config whose layers have become blobs: what left no blob counts as empty (OCI image-spec, "history":
 * entries that are not empty stand for the layers, in order).
 * @param hasBlob for each layer of the source
 */
export function historyOf(config: Record<string, unknown>, hasBlob: readonly boolean[]): object[] | undefined {
  const history = Array.isArray(config.history) ? (config.history as Record<string, unknown>[]) : [];
  if (history.some((entry) => typeof entry !== 'object' || entry === null)) return undefined;
  const isEmpty = (entry: Record<string, unknown>) => entry.empty_layer === true;
  // A history that does not fit its layers says nothing about them.
  if (history.filter((entry) => !isEmpty(entry)).length !== hasBlob.length) return undefined;
  let layer = 0;
  return history.map((entry) => (isEmpty(entry) || hasBlob[layer++] ? entry : { ...entry, empty_layer: true }));
}
