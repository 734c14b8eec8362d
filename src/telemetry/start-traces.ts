import type { Span, SpanContext, Tracer } from './spans.ts';
import type { StartTraces } from './starts.ts';

/** Of a mount that nobody reads, ms: a span that has no end is never seen. */
const UNREAD_MS = 60_000;
/** A mount belongs to a pull that was so long ago at most, ms. */
const PULLED_MS = 600_000;
const MOST_PULLS = 64;

export function createStartTraces(tracer: Tracer): StartTraces {
  const pulls = new Map<string, { context: SpanContext; at: number }>();
  /** Mounts that nobody has read from, by inode number. */
  const unread = new Map<number, Unread>();

  interface Unread {
    root: Span;
    inodes: readonly number[];
    timer: NodeJS.Timeout;
  }

  function pulled(reference: string): SpanContext | undefined {
    const found = pulls.get(reference);
    return found !== undefined && performance.now() - found.at < PULLED_MS ? found.context : undefined;
  }

  function forget({ inodes, timer }: Unread): void {
    clearTimeout(timer);
    for (const ino of inodes) unread.delete(ino);
  }

  function expectRead(root: Span, inodes: readonly number[]): void {
    const waiting: Unread = {
      root,
      inodes,
      timer: setTimeout(() => {
        forget(waiting);
        root.set({ 'nymph.read': false });
        root.end();
      }, UNREAD_MS).unref(),
    };
    for (const ino of inodes) {
      const before = unread.get(ino);
      if (before !== undefined) {
        // Another image with the same blobs: whose read it is cannot be told.
        forget(before);
        before.root.end();
      }
      unread.set(ino, waiting);
    }
  }

  return {
    begin(kind, reference) {
      const parent = kind === 'mount' ? pulled(reference) : undefined;
      const root = tracer.begin(kind === 'pull' ? 'pull' : 'start', { 'container.image.name': reference }, parent);
      const work = kind === 'mount' ? tracer.begin('mount', {}, root.context) : root;
      let stage: { name: string; span: Span } | undefined;
      return {
        stage(name) {
          if (stage?.name === name) return;
          stage?.span.end();
          stage = { name, span: tracer.begin(name, {}, work.context) };
        },
        done({ digest, format, size, kind: way, directory }, inodes) {
          stage?.span.end();
          root.set({ 'oci.manifest.digest': digest, 'nymph.image.format': format, 'nymph.image.size': size });
          work.set({ 'nymph.mount.kind': way, 'nymph.mount.directory': directory });
          work.end();
          if (kind === 'mount' && inodes.length > 0) return expectRead(root, inodes);
          root.end();
          if (kind === 'mount') return;
          pulls.delete(reference);
          pulls.set(reference, { context: root.context, at: performance.now() });
          for (const [oldest] of pulls) if (pulls.size > MOST_PULLS) pulls.delete(oldest);
        },
        failed(error) {
          stage?.span.end(error);
          work.end(error);
          root.end(error);
        },
      };
    },

    watch(fileSystem) {
      return {
        ...fileSystem,
        async read(extents, signal) {
          const waiting = unread.size > 0 ? extents.flatMap(({ ino }) => unread.get(ino) ?? [])[0] : undefined;
          if (waiting === undefined) return fileSystem.read(extents, signal);
          forget(waiting);
          const { root } = waiting;
          const [{ offset }] = extents;
          const length = extents.reduce((sum, extent) => sum + extent.length, 0);
          const span = tracer.begin(
            'first read',
            { 'nymph.read.offset': offset, 'nymph.read.length': length },
            root.context,
          );
          try {
            const bytes = await fileSystem.read(extents, signal);
            span.end();
            root.end();
            return bytes;
          } catch (error) {
            span.end(error);
            root.end(error);
            throw error;
          }
        },
      };
    },

    async close() {
      for (const { root } of new Set(unread.values())) root.end();
      await tracer.close();
    },
  };
}
