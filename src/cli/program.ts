import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { parseSubset } from '../daemon/subset.ts';
import { parseDuration, parseSize } from '../daemon/units.ts';
import { formatPlatform, parsePlatform } from '../sources/platform.ts';
import { VERSION } from '../version.ts';
import { packingOptions } from './build-options.ts';
import type { Context, GlobalOptions } from './context.ts';

/** What a command does, once it is known which; resolves with the exit status, 0 by default. */
export type Action = (context: Context) => Promise<number | undefined>;

/** Receives the command that was asked for and the options that every command takes. */
export type Chosen = (action: Action, globals: GlobalOptions) => Promise<void>;

/**
 * The command line: every command with its arguments and help. Each action loads its own module, so that `nymph ls` pays
 * neither for reading images nor for the daemon.
 */
export function buildProgram(chosen: Chosen): Command {
  const program = new Command('nymph')
    .description('Mounts container images that are not here yet: lazy Nydus images, verified chunk by chunk.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .option('--config <file>', 'configuration file (default: /etc/nymph/config.toml, if it is there)')
    .option('--root <directory>', 'directory of the cache, stronger than the configuration')
    .option('--address <socket>', 'control socket of the daemon, stronger than the configuration')
    .addOption(
      new Option('--driver <driver>', 'how a daemon that is started speaks FUSE: fuse-native needs no root').choices([
        'kernel',
        'fuse-native',
      ]),
    )
    .option('--json', 'print one JSON document')
    .option('--verbose', 'print the causes of an error')
    .configureHelp({ showGlobalOptions: true, styleTitle: (title) => title })
    .addHelpText('after', examples(['nymph mount registry.example/app:nydus /mnt/app', 'nymph ls']));
  const run = (action: Action) => chosen(action, program.opts());

  program
    .command('daemon')
    .description('serve mounts until told to stop')
    .option('--stop', 'stop the daemon that runs, and its supervisor; mounts stay, their missing bytes cannot be read')
    .addHelpText('after', examples(['nymph daemon', 'nymph daemon --stop']))
    .action((options) => run(async (context) => (await import('./commands/daemon.ts')).run(context, options)));

  program
    .command('upgrade')
    .description('have the daemon that runs hand over to another version; readers wait a moment, mounts stay')
    .argument('[directory]', 'of the version (default: the one of this program)')
    .option('--within <time>', 'how long it may take to get ready, and again to serve (default: 10s)', durationArgument)
    .addOption(new Option('--plan', 'say how this version is started').hideHelp())
    .addHelpText('after', examples(['nymph upgrade', 'nymph upgrade /usr/local/lib/nymph/current']))
    .action((directory, options) =>
      run(async (context) => (await import('./commands/upgrade.ts')).run(context, directory, options)),
    );

  program
    .command('mount')
    .description('mount an image lazily; starts the daemon if none runs')
    .usage(
      '[options] <reference> <directory>\n       nymph mount [options] --config <file> --bootstrap <file> <directory>',
    )
    .argument('[reference]', 'image, for example registry.example/app:nydus; not with --bootstrap')
    .argument('[directory]', 'where; made if it is not there')
    .addOption(platform())
    .addOption(
      new Option('--prefetch <what>', 'fetch in the background: nothing, what the image lists, or all').choices([
        'none',
        'image',
        'all',
      ]),
    )
    .addOption(
      new Option(
        '--via <way>',
        'by the kernel’s EROFS driver or as a FUSE tree (default: EROFS where the kernel can)',
      ).choices(['auto', 'erofs', 'fuse']),
    )
    .option('--strict', 'of models: let a file be read only after all of it was checked')
    .addOption(subset())
    .option('--bootstrap <file>', 'mount this bootstrap; --config is then that of nydusd, and says where the blobs are')
    .option('--nydusd-config <file>', 'configuration of nydusd, where --config is that of nymph, or for a reference')
    .addHelpText(
      'after',
      examples([
        'nymph mount registry.example/app:nydus /mnt/app',
        'nymph mount --prefetch all --platform linux/arm64 registry.example/app:nydus ./app',
        'nymph mount --config nydusd.json --bootstrap image.boot /mnt/app',
      ]),
    )
    .action((first, second, { bootstrap, nydusdConfig, ...options }) => {
      const { config, ...others }: GlobalOptions = program.opts();
      // nydusd's users write it as they do there.
      const theirs = bootstrap !== undefined && nydusdConfig === undefined;
      const image = { first, second, bootstrap, config: theirs ? config : nydusdConfig };
      return chosen(
        async (context) => (await import('./commands/mount.ts')).run(context, image, options),
        theirs ? others : program.opts(),
      );
    });

  program
    .command('umount')
    .alias('unmount')
    .description('unmount a directory')
    .argument('<directory>', 'the directory of a mount')
    .option('--force', 'also if it is in use: users of the mount then get errors')
    .addHelpText('after', examples(['nymph umount /mnt/app']))
    .action((directory, options) =>
      run(async (context) => (await import('./commands/umount.ts')).run(context, directory, options)),
    );

  program
    .command('pull')
    .description('fetch all of an image into the cache, verified')
    .argument('<reference>', 'image, for example registry.example/app:nydus')
    .addOption(platform())
    .addOption(subset())
    .addHelpText(
      'after',
      examples([
        'nymph pull registry.example/app:nydus',
        'nymph pull --subset config,tokenizer hf://Qwen/Qwen2.5-0.5B',
      ]),
    )
    .action((reference, options) =>
      run(async (context) => (await import('./commands/pull.ts')).run(context, reference, options)),
    );

  program
    .command('preheat')
    .description('have Dragonfly get images before they are read')
    .argument('<references...>', 'images, for example registry.example/app:nydus')
    .addOption(platform())
    .addOption(
      new Option('--scope <scope>', 'with a manager: who shall have them').choices([
        'single_seed_peer',
        'all_seed_peers',
        'all_peers',
      ]),
    )
    .addOption(
      new Option('--via <who>', 'who does it, where several are configured').choices(['manager', 'harbor', 'dfdaemon']),
    )
    .addHelpText('after', examples(['nymph preheat registry.example/app:nydus registry.example/model:1']))
    .action((references, options) =>
      run(async (context) => (await import('./commands/preheat.ts')).run(context, references, options)),
    );

  program
    .command('rpull')
    .description("pull an image into containerd lazily; starts the daemon if nymph's snapshotter is used and none runs")
    .argument('<reference>', 'image, for example registry.example/app:nydus')
    .addOption(new Option('--containerd <socket>', 'socket of containerd').env('CONTAINERD_ADDRESS'))
    .addOption(new Option('--namespace <name>', 'of containerd').env('CONTAINERD_NAMESPACE').default('default'))
    .addOption(
      new Option('--snapshotter <name>', 'by which containerd knows it').env('CONTAINERD_SNAPSHOTTER').default('nymph'),
    )
    .addOption(platform())
    .addHelpText(
      'after',
      examples(['nymph rpull registry.example/app:nydus', 'nymph rpull --namespace k8s.io registry.example/app:nydus']),
    )
    .action((reference, options) =>
      run(async (context) => (await import('./commands/rpull.ts')).run(context, reference, options)),
    );

  program
    .command('run-check')
    .description('say whether an image would be mounted lazily, and why; exit status 0 if so, 6 if not')
    .argument('<reference>', 'image, for example registry.example/app:nydus')
    .addOption(platform())
    .addHelpText('after', examples(['nymph run-check registry.example/app:nydus']))
    .action((reference, options) =>
      run(async (context) => (await import('./commands/run-check.ts')).run(context, reference, options)),
    );

  program
    .command('ls')
    .alias('list')
    .description('list mounts and images')
    .option('--files <reference>', 'list the files of an image instead; needs no daemon')
    .addHelpText('after', examples(['nymph ls', 'nymph ls --json', 'nymph ls --files registry.example/models/qwen:1']))
    .action((options) => run(async (context) => (await import('./commands/ls.ts')).run(context, options)));

  program
    .command('status')
    .description('print the state of the daemon, or of one image')
    .argument('[image]', 'reference or digest')
    .addHelpText('after', examples(['nymph status', 'nymph status registry.example/app:nydus']))
    .action((image) => run(async (context) => (await import('./commands/status.ts')).run(context, image)));

  program
    .command('top')
    .description('watch reads, faults, sources and images; q quits')
    .option('--once', 'print one picture of one interval, and end')
    .option('--interval <seconds>', 'between pictures', intervalArgument, 1)
    .addHelpText('after', examples(['nymph top', 'nymph top --once', 'nymph top --json --interval 10']))
    .action((options) => run(async (context) => (await import('./commands/top.ts')).run(context, options)));

  program
    .command('prefetch')
    .description('fetch what a trace names, the most urgent first, of an image that is mounted or will be')
    .argument('[image]', 'reference, digest or mounted directory; by default the image that the trace is of')
    .requiredOption(
      '--from <trace>',
      'what `nymph trace` prints, with or without --json, or a list of paths; - for standard input',
    )
    .addOption(platform())
    .addHelpText('after', examples(['nymph prefetch --from app.trace', 'nymph prefetch --from files.txt /mnt/app']))
    .action((image, options) =>
      run(async (context) => (await import('./commands/prefetch.ts')).run(context, image, options)),
    );

  program
    .command('trace')
    .description(
      'print the files that starts of an image read first, in that order; the next start is sent them at once',
    )
    .argument('<image>', 'reference or digest of an image that was mounted here')
    .option('--push', 'put it beside the image in its registry, where other nodes find it')
    .addHelpText(
      'after',
      examples(['nymph trace registry.example/app:nydus', 'nymph trace --push registry.example/app:nydus']),
    )
    .action((image, options) =>
      run(async (context) => (await import('./commands/trace.ts')).run(context, image, options)),
    );

  program
    .command('inspect')
    .description('print what an image is made of and what is verified; needs no daemon')
    .argument('<reference>', 'image, for example registry.example/app:nydus')
    .addOption(platform())
    .addHelpText('after', examples(['nymph inspect registry.example/app:nydus']))
    .action((reference, options) =>
      run(async (context) => (await import('./commands/inspect.ts')).run(context, reference, options)),
    );

  addOptions(
    program
      .command('build')
      .description('make an image from a directory or a tar; needs no daemon')
      .argument('<source>', 'directory, tar (plain, gzip or zstd), or - for a tar on standard input')
      .requiredOption('-o, --output <where>', 'a folder (then rafs:FOLDER), or oci:PATH:TAG')
      .addOption(new Option('--platform <platform>', 'that an OCI layout names (default: that of this machine)')),
    packingOptions(),
  )
    .addHelpText(
      'after',
      examples([
        'nymph build ./rootfs -o oci:images:app',
        'docker export CONTAINER | nymph build - -o ./app && nymph mount rafs:./app /mnt/app',
      ]),
    )
    .action((source, options) =>
      run(async (context) => (await import('./commands/build.ts')).run(context, source, options)),
    );

  addOptions(
    program
      .command('convert')
      .description('make a Nydus image of an ordinary one; needs no daemon')
      .argument('<source>', 'ordinary image, in a registry or oci:PATH:TAG')
      .argument('[destination]', 'where, host/name:tag or oci:PATH:TAG; without it, beside the source as its referrer')
      .option('--platform <platform>', 'of an index; may be repeated (default: that of this machine)', platforms)
      .addOption(new Option('--all-platforms', 'all of an index').conflicts('platform'))
      .option('--index', 'let the destination mean both images, so that it serves ordinary clients too'),
    packingOptions(),
  )
    .addHelpText(
      'after',
      examples([
        'nymph convert registry.example/app:1 registry.example/app:1-nydus',
        'nymph convert registry.example/app:1',
        'nymph convert --index --all-platforms registry.example/app:1 registry.example/app:1',
      ]),
    )
    .action((source, destination, options) =>
      run(async (context) => (await import('./commands/convert.ts')).run(context, source, destination, options)),
    );

  program
    .command('verify')
    .description('check every chunk of an image against its digest; wrong ones are fetched again')
    .argument('<target>', 'reference, or directory of a mount (beginning with / or .)')
    .addOption(platform())
    .option('--cached', 'check only what is in the cache; fetch nothing')
    .addHelpText('after', examples(['nymph verify registry.example/app:nydus', 'nymph verify --cached /mnt/app']))
    .action((target, options) =>
      run(async (context) => (await import('./commands/verify.ts')).run(context, target, options)),
    );

  program
    .command('prune')
    .description('remove what is not in use from the cache, longest unused first, down to the quota')
    .addOption(new Option('--all', 'remove everything that is not in use').conflicts('to'))
    .option('--to <size>', 'remove until this much is left, for example 10GiB', sizeArgument)
    .option('--force', 'also what is pinned, and what containerd has images of that no container runs from')
    .addHelpText('after', examples(['nymph prune --all', 'nymph prune --to 10GiB']))
    .action((options) => run(async (context) => (await import('./commands/prune.ts')).run(context, options)));

  program
    .command('pin')
    .description('keep an image in the cache: neither the quota nor `prune` evicts it')
    .argument('<image>', 'reference or digest of an image that is here')
    .addHelpText('after', examples(['nymph pin registry.example/app:nydus']))
    .action((image) => run(async (context) => (await import('./commands/pin.ts')).run(context, image, true)));

  program
    .command('unpin')
    .description('let an image be evicted again')
    .argument('<image>', 'reference or digest of an image that is pinned')
    .addHelpText('after', examples(['nymph unpin registry.example/app:nydus']))
    .action((image) => run(async (context) => (await import('./commands/pin.ts')).run(context, image, false)));

  program
    .command('doctor')
    .description('check kernel, daemon, containerd and a registry, and say what to change')
    .argument('[reference]', 'an image whose registry and logins are checked, too')
    .addHelpText('after', examples(['nymph doctor', 'nymph doctor registry.example/app:nydus']))
    .action((reference) => run(async (context) => (await import('./commands/doctor.ts')).run(context, reference)));

  program
    .command('setup')
    .description('put nymph into containerd’s configuration; restarts nothing unless told to')
    .addArgument(new Argument('<what>', 'containerd').choices(['containerd']))
    .option('--dry-run', 'show what would change; write nothing')
    .option('--cri', 'also make nymph the snapshotter of Kubernetes (CRI)')
    .option('--undo', 'take out what nymph has put in')
    .option('--restart', 'restart containerd afterwards, with systemctl; containers run on')
    .option('--file <file>', 'containerd’s configuration (default: containerd.config of the configuration)')
    .option('--for <version>', 'version of containerd (default: the one that is installed)')
    .addHelpText('after', examples(['nymph setup containerd --dry-run', 'nymph setup containerd --cri --restart']))
    .action((_what, options) => run(async (context) => (await import('./commands/setup.ts')).run(context, options)));

  addPluginCommands(program, run);
  return program;
}

function addPluginCommands(program: Command, run: (action: Action) => Promise<void>): void {
  const plugin = program
    .command('plugin')
    .description('drivers for hubs of models, as WebAssembly components')
    .addHelpText('after', examples(['nymph plugin ls', 'nymph plugin add shelf.wasm']));
  plugin
    .command('add')
    .description('install a driver; a daemon that runs uses it at once')
    .argument('<file>', 'the component')
    .option('--replace', 'also if there is one for the same scheme')
    .addHelpText('after', examples(['nymph plugin add shelf.wasm']))
    .action((file, options) =>
      run(async (context) => (await import('./commands/plugin.ts')).add(context, file, options)),
    );
  plugin
    .command('ls')
    .description('list the drivers, and the hosts that they may reach')
    .addHelpText('after', examples(['nymph plugin ls']))
    .action(() => run(async (context) => (await import('./commands/plugin.ts')).list(context)));
  plugin
    .command('rm')
    .description('remove a driver')
    .argument('<scheme>', 'its scheme: what stands before `://`')
    .addHelpText('after', examples(['nymph plugin rm shelf']))
    .action((scheme) => run(async (context) => (await import('./commands/plugin.ts')).remove(context, scheme)));
}

function addOptions(command: Command, options: readonly Option[]): Command {
  for (const option of options) command.addOption(option);
  return command;
}

function examples(lines: readonly string[]): string {
  return `\nExample${lines.length === 1 ? '' : 's'}:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

function platforms(text: string, before: string[] = []): string[] {
  return [...before, formatPlatform(parsePlatform(text))];
}

function platform(): Option {
  return new Option('--platform <platform>', 'os/architecture[/variant] (default: that of this machine)').argParser(
    (text: string) => formatPlatform(parsePlatform(text)),
  );
}

function subset(): Option {
  const help = 'of models: only files of these kinds (config, tokenizer, weights, doc, code, dataset) or patterns';
  return new Option('--subset <kinds>', help).argParser(parseSubset);
}

function intervalArgument(text: string): number {
  const seconds = Number(text);
  if (seconds >= 0.1 && seconds <= 3600) return seconds;
  throw new InvalidArgumentError('Write seconds, from 0.1 to 3600.');
}

function sizeArgument(text: string): number {
  const size = parseSize(text);
  if (size === undefined) throw new InvalidArgumentError('Write a size, for example 10GiB.');
  return size;
}

function durationArgument(text: string): number {
  const duration = parseDuration(text);
  if (!duration) throw new InvalidArgumentError('Write a time, for example 10s.');
  return duration;
}
