/** Modules of plugins, whose memory is limited: any file that somebody adds. */
import { limitModules, MAX_PAGES } from '../../../src/plugins/limits.ts';
import { ensure, type Target } from '../target.ts';

const HEADER = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const BODY = [0, 0x41, 1, 0x40, 0, 0x0b];

/** With a function that grows its memory, if it has one. */
function module(...sections: number[][]): Uint8Array {
  return Uint8Array.from([...HEADER, ...sections.flatMap(([id, ...content]) => [id, content.length, ...content])]);
}

export const target: Target = {
  name: 'plugin',
  seeds: () => [
    module(),
    module([5, 1, 0, 1]),
    module([5, 1, 1, 1, 0x80, 0x08], [7, 1, 1, 0x6d, 2, 0]),
    module([4, 2, 0x70, 0, 1, 0x6f, 1, 0, 9], [0, 1, 0x61, 1, 2, 3]),
    module([1, 1, 0x60, 0, 1, 0x7f], [3, 1, 0], [5, 2, 0, 1, 1, 0, 0], [10, 1, BODY.length, ...BODY]),
  ],
  limit: 4 << 10,
  run(input) {
    const [{ module: limited, pages }] = limitModules([input]);
    ensure(pages <= MAX_PAGES, 'more memory than a driver may have');
    const again = limitModules([limited])[0];
    ensure(again.pages === pages && Buffer.compare(again.module, limited) === 0, 'a second time changes it');
    const before = compile(input);
    const after = compile(limited);
    // What V8 takes as it came, it takes with limits.
    ensure(!before || after, 'it is no module any more');
    return `${pages > 0 ? 'memory' : 'none'} ${before}`;
  },
};

function compile(bytes: Uint8Array): boolean {
  try {
    new WebAssembly.Module(bytes);
    return true;
  } catch {
    // Most inputs are none.
    return false;
  }
}
