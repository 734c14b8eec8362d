import { readFile } from 'node:fs/promises';
import { parse } from 'smol-toml';
import { criSettings, pluginsAt, type Table, unpackSnapshotters } from '../containerd/config.ts';
import {
  askContainerd,
  type RunningContainerd,
  type RunningPlugin,
  SNAPSHOTTER_PLUGIN,
  TRANSFER_PLUGIN,
} from '../containerd/running.ts';
import { atLeast, dumpConfig, installedVersion, type ProgramVersion, parseVersion } from '../containerd/version.ts';
import type { Config } from '../daemon/config.ts';
import { type Finding, findings } from './finding.ts';

const { ok, warning, problem } = findings('containerd');
const SETUP = 'Run `nymph setup containerd`, and restart containerd.';
/** Words in a snapshotter's name by which nerdctl before 2.3 takes it for a lazy one. */
const NERDCTL_NAMES = ['nydus', 'overlaybd', 'stargz', 'soci', 'cvmfs-snapshotter'];

/** What runs, and what it will have after its next start. */
export async function checkContainerd(config: Config): Promise<Finding[]> {
  const installed = await installedVersion('containerd');
  let running: RunningContainerd;
  try {
    running = await askContainerd(config.containerd.address);
  } catch (error) {
    const { message } = error as Error;
    if (!installed)
      return [warning(`${message}, and it is not installed`, 'Without it `nymph mount` works, containers do not.')];
    return [problem(message, 'Start it, or name its socket as `containerd.address`.')];
  }
  const version = parseVersion(running.version);
  if (!version) return [warning(`its version ${running.version} is not known`)];
  const { document, doubt } = await effectiveConfig(config.containerd.config, installed, version);
  const ours = ourPlugins(running.plugins, config.snapshotter.address);
  const found = [ok(`version ${version.text} answers on ${config.containerd.address}`), ...doubt];
  if (!atLeast(version, 1, 6)) found.push(problem('it is older than 1.6', 'Take a newer one.'));
  const written = pluginsAt(document, config.snapshotter.address);
  if (ours.length === 0) {
    const says = `it has no snapshotter at ${config.snapshotter.address}`;
    found.push(
      written.length === 0
        ? problem(says, SETUP)
        : problem(`${says}, but its configuration has`, 'Restart it: `systemctl restart containerd`.'),
    );
    return found;
  }
  const names = ours.map(({ id }) => id);
  found.push(ok(`nymph is its snapshotter ${names.join(', ')}`));
  found.push(...checkTransfer(running.plugins, ours, document, version));
  found.push(...checkCri(document, names, version));
  const nerdctl = await installedVersion('nerdctl');
  if (nerdctl) found.push(checkNerdctl(nerdctl, names, version));
  return found;
}

function ourPlugins(plugins: readonly RunningPlugin[], address: string): RunningPlugin[] {
  return plugins.filter(({ type, exports }) => type === SNAPSHOTTER_PLUGIN && exports.address === address);
}

/** As containerd itself reads the file, if it is the same version; else the file alone. */
async function effectiveConfig(
  file: string,
  installed: ProgramVersion | undefined,
  running: ProgramVersion,
): Promise<{ document: Table; doubt: Finding[] }> {
  const doubt: Finding[] = [];
  try {
    if (installed?.text === running.text) return { document: parse(await dumpConfig(file)) as Table, doubt };
    if (installed)
      doubt.push(warning(`version ${installed.text} is installed, ${running.text} runs`, 'Restart containerd.'));
    return { document: parse(await readFile(file, 'utf8')) as Table, doubt };
  } catch (error) {
    doubt.push(
      warning(
        `its configuration cannot be looked at: ${(error as Error).message.split('\n', 1)[0]}`,
        'Name it as `containerd.config`.',
      ),
    );
    return { document: {}, doubt };
  }
}

/** The transfer service, by which 2.x pulls. */
function checkTransfer(
  plugins: readonly RunningPlugin[],
  ours: readonly RunningPlugin[],
  document: Table,
  version: ProgramVersion,
): Finding[] {
  if (version.major < 2) return [];
  const found: Finding[] = [];
  const failed = plugins.find(({ type, initErr }) => type === TRANSFER_PLUGIN && initErr);
  if (failed) found.push(problem(`its transfer service did not start: ${failed.initErr!.message}`, SETUP));
  const listed = unpackSnapshotters(document);
  const missing = ours.map(({ id }) => id).filter((name) => !listed?.includes(name));
  if (missing.length > 0)
    found.push(
      warning(`its transfer service does not unpack for ${missing.join(', ')}: such pulls are not lazy`, SETUP),
    );
  const silent = ours.filter(({ exports }) => exports.enable_remote_snapshot_annotations !== 'true');
  if (atLeast(version, 2, 1) && silent.length > 0)
    found.push(
      warning(
        `its transfer service sends no labels to ${silent.map(({ id }) => id).join(', ')}: such pulls are not lazy`,
        SETUP,
      ),
    );
  return found.length > 0 ? found : [ok('its transfer service unpacks for nymph')];
}

function checkCri(document: Table, names: readonly string[], version: ProgramVersion): Finding[] {
  const cri = criSettings(document, version.major);
  if (!cri.enabled) return [ok('its CRI plugin is switched off')];
  if (cri.snapshotter === undefined || !names.includes(cri.snapshotter))
    return [
      ok(`pods get the snapshots of ${cri.snapshotter ?? 'overlayfs'}; \`nymph setup containerd --cri\` changes it`),
    ];
  const byTransfer = atLeast(version, 2, 1) && cri.localPull.length === 0;
  if (byTransfer || cri.annotations) return [ok('pods get the snapshots of nymph')];
  const why = atLeast(version, 2, 1) ? ` (because of ${cri.localPull.join(', ')})` : '';
  return [
    warning(
      `pods get the snapshots of nymph, but the labels that make them lazy are switched off${why}`,
      'Run `nymph setup containerd --cri`, and restart containerd.',
    ),
  ];
}

function checkNerdctl(nerdctl: ProgramVersion, names: readonly string[], version: ProgramVersion): Finding {
  const says = `nerdctl ${nerdctl.text}`;
  if (atLeast(nerdctl, 2, 3) && atLeast(version, 2, 1)) return ok(`${says}: \`--snapshotter ${names[0]}\` is lazy`);
  const known = names.find((name) => NERDCTL_NAMES.includes(name));
  if (known) return ok(`${says}: \`--snapshotter ${known}\` is lazy`);
  return warning(`${says} takes none of ${names.join(', ')} for a lazy snapshotter`, SETUP);
}
