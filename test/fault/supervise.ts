/** A supervisor of any script: `node supervise.ts SCRIPT ARGUMENT…`. */
import { supervise } from '../../src/daemon/supervisor.ts';

const [script, ...args] = process.argv.slice(2);
process.exitCode = await supervise({ script, arguments: args, log: (message) => console.error(message) });
