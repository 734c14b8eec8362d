/** Our FUSE driver against libfuse through fuse-native, both with the same FUSE tree, all data on this machine. */
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { type LocalOptions, MEASURES, type Measure, readInOrder, takeTurns } from './local.ts';
import { type LocalImage, localImage } from './local-image.ts';
import { startNymph } from './nymph.ts';
import type { Place } from './place.ts';
import { shell } from './processes.ts';
import type { Row, Trial } from './report.ts';

const DRIVERS = ['kernel', 'fuse-native'] as const;
type DriverName = (typeof DRIVERS)[number];

/** What is measured; goals are others than against ext4. */
type Work = Pick<Measure, 'name' | 'work' | 'unit' | 'once'>;

/** Names of measures, with the goal of each. */
const WORKS: Record<string, Row['goal']> = {
  sequential: { least: 3 },
  direct: { least: 3 },
  random: { least: 1.8 },
  'find, cold': { most: 1 },
  tar: { most: 1 },
};

/** What drivers can bring: without O_DIRECT, the reader is busy with its own page cache, whoever answers. */
const DIRECT: Work = {
  name: 'direct',
  work: 'large file in order, with O_DIRECT',
  unit: 'throughput',
  once: (directory) => readInOrder(directory, 'iflag=direct'),
};

export async function drivers(
  lab: Lab,
  place: Place,
  options: LocalOptions,
  say: (line: string) => void,
): Promise<Trial> {
  say('making the tree and the image');
  const image = await localImage(place.kept, options.quick);
  say('filling two caches');
  const directories = {
    kernel: await mountBy(lab, place, image, 'kernel'),
    'fuse-native': await mountBy(lab, place, image, 'fuse-native'),
  };
  const all: Work[] = [DIRECT, ...Object.values(MEASURES).flatMap((make) => make(image, options))];
  const rows: Row[] = [];
  for (const [name, goal] of Object.entries(WORKS)) {
    const measure = all.find((candidate) => candidate.name === name) as Work;
    say(name);
    const values = await takeTurns(withWarmDisk(measure, place), DRIVERS, directories, options.rounds, say);
    rows.push({
      work: `${measure.work}; our driver`,
      against: 'fuse-native',
      unit: measure.unit,
      ratios: values.kernel.map((value, round) => value / values['fuse-native'][round]),
      goal,
    });
  }
  const text =
    '**drivers**: one image as a FUSE tree by two daemons, one with each driver. The works are those above, but the caches of both daemons are in the page cache: it is the drivers that are measured, not the disk.';
  return { name: 'drivers', text, rows };
}

/** The same with the daemons' caches in the page cache; pages of the mounts are not. */
function withWarmDisk(measure: Work, place: Place): Pick<Work, 'once'> {
  return {
    async once(directory) {
      await shell(`cat ${join(place.scratch, '*', 'root', 'blobs', '*', 'data')} >/dev/null`);
      return measure.once(directory);
    },
  };
}

async function mountBy(lab: Lab, place: Place, image: LocalImage, driver: DriverName): Promise<string> {
  const nymph = await startNymph(lab, join(place.scratch, driver), { driver });
  const directory = join(place.scratch, `${driver}-tree`);
  const reference = `oci:${image.layout}:bench`;
  await nymph.command('pull', reference);
  await nymph.command('mount', '--via', 'fuse', reference, directory);
  return directory;
}
