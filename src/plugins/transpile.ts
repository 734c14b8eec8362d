import { createHash } from 'node:crypto';
import { NymphError } from '../errors.ts';
import { limitModules } from './limits.ts';
import type { Plugin } from './plugin.ts';

/** What a component was made into: the files of a plugin's folder, and its `plugin.json` but for the description. */
export interface TranspiledPlugin {
  plugin: Omit<Plugin, 'description'>;
  files: { name: string; bytes: Uint8Array }[];
}

const MAX_MODULES = 64;
const GLUE = 'driver.js';
/** What is needed of jco to install a component, and only for this. */
const TRANSPILER = '@bytecodealliance/jco-transpile';

/**
 * Makes a component loadable by Node: core modules with limits of memory, and JavaScript that speaks the component
 * model's calling convention. The JavaScript is made here, by jco, and never taken from others.
 * @throws NymphError `unsupported` for what is no component of the world `driver`; `precondition` without jco
 */
export async function transpile(component: Uint8Array): Promise<TranspiledPlugin> {
  const generated = await generate(component);
  const exported = generated.exports.map(([name]) => name);
  checkWorld(generated.imports, exported);
  const modules = generated.files.filter(([name]) => name.endsWith('.wasm'));
  const glue = generated.files.find(([name]) => name === GLUE);
  if (glue === undefined || modules.length === 0 || modules.length > MAX_MODULES)
    throw new NymphError('unsupported', `the plugin has ${modules.length} modules, of at most ${MAX_MODULES}`);
  const limited = limitModules(modules.map(([, bytes]) => bytes));
  return {
    plugin: {
      glue: GLUE,
      modules: modules.map(([file], i) => ({ file, pages: limited[i].pages })),
      sha256: createHash('sha256').update(component).digest('hex'),
    },
    files: [
      { name: GLUE, bytes: glue[1] },
      ...modules.map(([name], i) => ({ name, bytes: limited[i].module })),
      // Node would take the JavaScript for CommonJS otherwise.
      { name: 'package.json', bytes: Buffer.from('{"type":"module"}\n') },
    ],
  };
}

async function generate(component: Uint8Array) {
  const transpiler = await loadTranspiler();
  try {
    return transpiler.generate(component, {
      name: 'driver',
      instantiation: { tag: 'async' },
      noTypescript: true,
      noNodejsCompat: true,
      noNamespacedExports: true,
      map: [],
      // Modules within the JavaScript would have no limits.
      base64Cutoff: 0,
    });
  } catch (error) {
    const why = String((error as Error)?.message ?? error)
      .split('\n', 1)[0]
      .slice(0, 200);
    throw new NymphError('unsupported', `this is no component of WebAssembly: ${why}`, {
      hint: 'Build one against plugins/hub.wit: see docs/plugins.md.',
    });
  }
}

/** A driver is given nothing: no network, files, clock or randomness. */
function checkWorld(imports: string[], exports: string[]): void {
  if (imports.length > 0)
    throw new NymphError('unsupported', `the plugin wants ${imports.join(', ').slice(0, 200)}: it is given nothing`, {
      hint: 'Build it without WASI: with `--backend-qjs-stub-wasi` of jco.',
    });
  const missing = ['describe', 'start', 'next'].filter((name) => !exports.includes(name));
  if (missing.length > 0)
    throw new NymphError('unsupported', `the plugin has no ${missing.join(', ')}: it is no driver of a hub`, {
      hint: 'Build it against the world `driver` of plugins/hub.wit.',
    });
}

async function loadTranspiler() {
  try {
    const transpiler = await import('@bytecodealliance/jco-transpile/component');
    await transpiler.$init;
    return transpiler;
  } catch (cause) {
    throw new NymphError('precondition', `${TRANSPILER} is not installed: it makes components loadable`, {
      hint: `Run \`npm install --no-save ${TRANSPILER}\` where nymph is, or add the plugin on a machine that has it, and copy its folder below \`<root>/plugins\`.`,
      cause,
    });
  }
}
