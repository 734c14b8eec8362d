/** Python modules, as far as start-up readahead reads them: any file of an image. */
import { readImports } from '../../../src/formats/python/imports.ts';
import { compiledModule } from '../../python.ts';
import { ensure, type Target } from '../target.ts';

const IMPORTS = [{ module: 'os.path' }, { module: '', names: ['a', 'b'] }];

export const target: Target = {
  name: 'python',
  seeds: () => [
    compiledModule(8, IMPORTS, IMPORTS),
    compiledModule(11, IMPORTS, IMPORTS, 260),
    compiledModule(13, IMPORTS, IMPORTS),
    Buffer.from('import os, sys\ntry:\n  from . import (a,\n    b)\nexcept E:\n  pass\n'),
  ],
  errors: [],
  limit: 8 << 10,
  run(input) {
    const found = readImports(input);
    ensure(found.length <= 1000, 'too many statements');
    for (const { module, names } of found) {
      ensure(typeof module === 'string' && names.every((name) => typeof name === 'string'), 'no text');
      ensure(names.length <= input.length, 'more names than bytes');
    }
    return `${Math.min(found.length, 4)} ${found.some(({ names }) => names.length > 0)}`;
  },
};
