import { corrupt } from '../../errors.ts';
import {
  type FileList,
  type FileNode,
  type Layer,
  type LayerPlan,
  objectOf,
  type StoredObject,
} from '../../image/files.ts';
import type { OciDigest } from '../../image/image.ts';
import type { TarMember } from '../tar/members.ts';

/** What a tar layer was found to hold. */
export interface HeldTar {
  readonly members: readonly TarMember[];
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
  const files = plans.flatMap((plan): FileNode[] => {
    const { layer, holds } = plan;
    const { size } = layer;
    if (holds.kind === 'tar') {
      const { members } = tars.get(plan)!;
      // What holds nothing is not fetched.
      const object = members.some(hasBytes) ? objectAt(layer) : -1;
      return members.map((member) => nodeOf(member, object, holds.folder));
    }
    if (holds.kind === 'directory') return [{ ...holds.node, content: { kind: 'directory' } }];
    return [{ ...holds.node, content: { kind: 'file', size, object: objectAt(layer), offset: 0 } }];
  });
  return { format, objects, files, warnings: [] };
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
function objectList(place: string): { objects: StoredObject[]; objectAt(layer: Layer): number } {
  const objects: StoredObject[] = [];
  const positions = new Map<OciDigest, number>();
  return {
    objects,
    /** @returns its position; -1 for an empty one */
    objectAt({ digest, size }) {
      if (size === 0) return -1;
      const known = positions.get(digest);
      if (known !== undefined) {
        if (objects[known].size === size) return known;
        throw corrupt(
          'manifest',
          'size',
          0,
          `${digest} has ${objects[known].size} bytes in one layer, ${size} in another`,
        );
      }
      positions.set(digest, objects.length);
      objects.push(objectOf({ size, whole: { algorithm: 'sha256', hex: digest.slice('sha256:'.length) }, place }));
      return objects.length - 1;
    },
  };
}
