/** Inputs that fuzzing found (`make fuzz`), again: each target must stand them. */
import { test } from 'node:test';
import { keptInputs, loadTarget, targetNames } from '../fuzz/corpus.ts';
import { judge } from '../fuzz/target.ts';

for (const name of targetNames()) {
  test(`${name}: inputs that are kept`, async (t) => {
    const target = await loadTarget(name);
    const seeds = (await target.seeds()).map((bytes, i) => ({ name: `seed ${i}`, bytes }));
    const inputs = [...seeds, ...keptInputs(name)];
    for (const { name: file, bytes } of inputs) {
      try {
        await judge(target, bytes);
      } catch (error) {
        throw new Error(`test/corpus/${name}/${file}: ${error}`, { cause: error });
      }
    }
    t.diagnostic(`${inputs.length} inputs`);
  });
}
