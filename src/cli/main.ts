import { type Command, CommanderError } from 'commander';
import { NymphError } from '../errors.ts';
import { EXIT } from '../exit-status.ts';
import { type Context, createContext, type GlobalOptions } from './context.ts';
import { reportFailure } from './failure.ts';
import { type Action, buildProgram } from './program.ts';

/** Runs one command line, without the program's own name. Everything that goes wrong is printed here, and only here. */
async function main(args: readonly string[]): Promise<number> {
  // Known before the command line is parsed, which may fail.
  let json = args.includes('--json');
  let verbose = args.includes('--verbose');
  let exit: number = EXIT.ok;
  const program = buildProgram(async (action: Action, globals: GlobalOptions) => {
    json = globals.json === true;
    verbose = globals.verbose === true;
    const context: Context = await createContext(globals);
    verbose ||= context.config.log.level === 'debug';
    exit = (await action(context)) ?? EXIT.ok;
  });
  let failing = 'nymph';
  const nested = program.commands.flatMap((command) => [command, ...command.commands]);
  for (const command of [program, ...nested]) throwInsteadOfExit(command, (name) => (failing = name));
  try {
    await program.parseAsync(args, { from: 'user' });
    return exit;
  } catch (error) {
    if (!(error instanceof CommanderError)) return reportFailure(error, json, verbose);
    if (error.exitCode === 0) return EXIT.ok;
    return reportFailure(usageError(error, failing), json, verbose);
  }
}

/** Commander prints errors and exits by itself; we print all errors in one way. */
function throwInsteadOfExit(command: Command, failed: (name: string) => void): void {
  command.exitOverride().configureOutput({
    outputError: () => failed(pathOf(command)),
  });
}

/** `nymph plugin add` */
function pathOf(command: Command): string {
  return command.parent === null ? 'nymph' : `${pathOf(command.parent)} ${command.name()}`;
}

function usageError(error: CommanderError, command: string): NymphError {
  // A command line without a command: help was printed on standard error already.
  if (error.code === 'commander.help') return new NymphError('usage', 'no command was given');
  const message = error.message.replace(/^error: /, '');
  return new NymphError('usage', message, { hint: `See \`${command} --help\`.` });
}

// `nymph ls | head -1`: the reader has what it wanted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

// Standard output is written synchronously to files, pipes and terminals here, so nothing is cut off.
process.exit(await main(process.argv.slice(2)));
