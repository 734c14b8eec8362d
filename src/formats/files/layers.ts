import { corrupt } from '../../errors.ts';
import {
  type FileList,
  type FileNode,
  type Layer,
  type LayerPlan,
  objectOf,
  type StoredObject,
  type Unpacked,
  unpackedObject,
} from '../../image/files.ts';
import type { OciDigest } from '../../image/image.ts';
import type { TarMember } from '../tar/members.ts';

/** What a tar layer was found to hold. */
export interface HeldTar {
  readonly members: readonly TarMember[];
  /** If headers were believed that no digest vouches for yet: what they said. */
  readonly index?: string;
  /** If all of it was read for that: files then lie in what it unpacks to. */
  readonly unpacked?: Unpacked;
}

/**
 * The files of an artifact, layer by layer: of two with one path the later counts.
 * @param tars what those layers hold that are tars
 * @param place where the artifact is: registry and repository
 * @throws NymphError `corrupt` if sizes contradict each other
 */
export function listOfLayers(
  format: FileList['format'],
  plans: readonly LayerPlan[],
  tars: ReadonlyMap<LayerPlan, HeldTar>,
  place: string,
): FileList {
  const { objects, objectAt } = objectList(place);
  const files = plans.flatMap((plan): FileNode[] => filesOf(plan).map((file) => withChecksums(file, plan)));
  return { format, objects, files, warnings: [] };

  function filesOf(plan: LayerPlan): FileNode[] {
    const { layer, holds, kind } = plan;
    const said = kind === undefined ? {} : { kind };
    const { size } = layer;
    if (holds.kind === 'tar') {
      const tar = tars.get(plan)!;
      const { members } = tar;
      // What holds nothing is not fetched.
      const object = members.some(hasBytes) ? objectAt(layer, tar) : -1;
      return members.map((member) => ({ ...nodeOf(member, object, holds.folder), ...said }));
    }
    if (holds.kind === 'directory') return [{ ...holds.node, ...said, content: { kind: 'directory' } }];
    return [{ ...holds.node, ...said, content: { kind: 'file', size, object: objectAt(layer), offset: 0 } }];
  }
}

/** @returns the file with those that fit it */
function withChecksums(file: FileNode, { checksums }: LayerPlan): FileNode {
  const { content, path } = file;
  const found = checksums?.get(path);
  if (found === undefined || content.kind !== 'file') return file;
  return Math.ceil(content.size / found.pieceSize) === found.crcs.length ? { ...file, checksums: found } : file;
}

function hasBytes({ content }: TarMember): boolean {
  return content.kind === 'file' && content.size > 0;
}

function nodeOf(member: TarMember, object: number, folder: string | undefined): FileNode {
  const { content } = member;
  const isInside = folder === undefined || member.path === folder || member.path.startsWith(`${folder}/`);
  const path = isInside ? member.path : `${folder}/${member.path}`;
  if (content.kind !== 'file') return { ...member, path, content };
  return { ...member, path, content: { ...content, object: content.size > 0 ? object : -1 } };
}

/** Collects the objects of layers; layers with the same bytes are one. */
function objectList(place: string): {
  objects: StoredObject[];
  /** @returns its position; -1 for an empty one */
  objectAt(layer: Layer, tar?: HeldTar): number;
} {
  const objects: StoredObject[] = [];
  const positions = new Map<string, number>();
  const sizes = new Map<OciDigest, number>();
  return {
    objects,
    objectAt(layer, { unpacked, index } = { members: [] }) {
      const { digest, size } = layer;
      if (size === 0) return -1;
      if ((sizes.get(digest) ?? size) !== size)
        throw corrupt(
          'manifest',
          'size',
          0,
          `${digest} has ${sizes.get(digest)} bytes in one layer, ${size} in another`,
        );
      sizes.set(digest, size);
      const whole = { algorithm: 'sha256', hex: digest.slice('sha256:'.length) } as const;
      const object = unpacked ? unpackedObject(layer, unpacked, place) : objectOf({ size, whole, place });
      const known = positions.get(object.id);
      if (known !== undefined) return known;
      positions.set(object.id, objects.length);
      return objects.push(index === undefined ? object : { ...object, index }) - 1;
    },
  };
}
