/**
 * Makes many calls share few runs of an action, one run at a time: a call during a run gets the next one, because what
 * the caller did may have come too late for the one that is under way.
 */
export function shared(act: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;

  function start(): Promise<void> {
    next = undefined;
    running = act().finally(() => {
      running = undefined;
    });
    return running;
  }

  return () => {
    if (running === undefined) return start();
    next ??= running.catch(() => undefined).then(start);
    return next;
  };
}
