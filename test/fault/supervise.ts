/** A supervisor of any script: `node supervise.ts SCRIPT ARGUMENT…`. */
import { supervise } from '../../src/daemon/supervisor.ts';

const command = [process.execPath, ...process.argv.slice(2)];
process.exitCode = await supervise({ command, log: (message) => console.error(message) });
